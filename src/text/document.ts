import { stringify } from 'yaml'
import { toJson } from '../json.ts'

export const outputFormats = ['table', 'wide', 'json', 'yaml'] as const
export type OutputFormat = (typeof outputFormats)[number]

/** The same object as JSON or YAML; sizes in bytes are decimal texts, as they may exceed what JSON's readers count. */
export function formatDocument(format: 'json' | 'yaml', value: unknown): string {
  const document: unknown = JSON.parse(toJson(value))
  return format === 'json'
    ? `${JSON.stringify(document, null, 2)}\n`
    : stringify(document, { lineWidth: 0, compat: 'yaml-1.1' })
}
