import { stringify } from 'yaml'
import { toJson } from '../json.ts'
import { formatJsonPath } from './json-path.ts'

/** The forms that a program may read; `jsonpath=` is followed by a template. */
export type DocumentFormat = 'json' | 'yaml' | `jsonpath=${string}`

export function isDocumentFormat(output: string): output is DocumentFormat {
  return output === 'json' || output === 'yaml' || output.startsWith('jsonpath=')
}

/**
 * The same object as JSON or YAML, or what a JSONPath finds in it; sizes in bytes are decimal texts, as they may exceed what
 * JSON's readers count. Throws `invalid` for a JSONPath that is none.
 */
export function formatDocument(format: DocumentFormat, value: unknown): string {
  const document: unknown = JSON.parse(toJson(value))
  if (format === 'json') return `${JSON.stringify(document, null, 2)}\n`
  if (format === 'yaml') return stringify(document, { lineWidth: 0, compat: 'yaml-1.1' })
  return formatJsonPath(format.slice('jsonpath='.length), document)
}
