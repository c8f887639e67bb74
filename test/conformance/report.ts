/** Reads what ginkgo reports, and judges it. */
import { readFile } from 'node:fs/promises'
import type { Exception } from './slices.ts'

/** A spec that was run, or would have been if the driver could what it needs. */
export interface Spec {
  name: string
  state: 'passed' | 'failed' | 'skipped'
  /** Why it failed, or was skipped. */
  message: string
}

export interface Verdict {
  passed: number
  /** Those that were to pass and did not, and those that were not to pass and did. */
  failed: number
  excepted: number
  skipped: number
  /** What is to be said of them. */
  lines: string[]
}

interface SpecReport {
  ContainerHierarchyTexts: string[] | null
  LeafNodeType: string
  LeafNodeText: string
  State: string
  NumAttempts: number
  Failure?: { Message?: string }
}

/** The specs of a report, without those that were not asked for. Throws when there is no report. */
export async function readReport(file: string): Promise<Spec[]> {
  const suites: { SpecReports: SpecReport[] | null }[] = JSON.parse(await readFile(file, 'utf8'))
  return parseReports(suites.flatMap(({ SpecReports }) => SpecReports ?? []))
}

export function parseReports(reports: readonly SpecReport[]): Spec[] {
  return reports.flatMap((report) => {
    const { ContainerHierarchyTexts: texts, LeafNodeType: kind, LeafNodeText: text, State: its, Failure } = report
    const state = its === 'passed' || its === 'skipped' ? its : its === 'pending' ? 'skipped' : 'failed'
    const message = Failure?.Message ?? ''
    // What is around the specs counts when it fails.
    if (kind !== 'It') return state === 'failed' ? [{ name: kind, state, message }] : []
    const wasFiltered = state === 'skipped' && message === '' && report.NumAttempts === 0
    return wasFiltered ? [] : [{ name: [...(texts ?? []), text].join(' '), state, message }]
  })
}

/** Whether all is as it is known to be. Exceptions are those of the same slice. */
export function judge(specs: readonly Spec[], exceptions: readonly Exception[]): Verdict {
  const verdict: Verdict = { passed: 0, failed: 0, excepted: 0, skipped: 0, lines: [] }
  const unmet = new Set(exceptions)
  const ran = specs.filter(({ state }) => state !== 'skipped')
  if (ran.length === 0) {
    verdict.failed = 1
    verdict.lines.push('No spec was run.')
  }
  verdict.skipped = specs.length - ran.length
  for (const { name, state, message } of ran) {
    const exception = exceptions.find(({ spec }) => name.endsWith(spec))
    if (exception) unmet.delete(exception)
    if (exception && state === 'failed') {
      verdict.excepted += 1
      verdict.lines.push(`Known not to pass: ${name}\n  ${exception.why}`)
    } else if (exception) {
      verdict.failed += 1
      verdict.lines.push(`Passed, though it is known not to: ${name}\n  ${exception.why}`)
    } else if (state === 'failed') {
      verdict.failed += 1
      verdict.lines.push(`Failed: ${name}\n${message}`)
    } else verdict.passed += 1
  }
  for (const { spec } of unmet) {
    verdict.failed += 1
    verdict.lines.push(`Not run, though it is known not to pass: ${spec}`)
  }
  return verdict
}
