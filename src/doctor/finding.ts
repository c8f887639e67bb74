/** What one check of the doctor found. */
export interface Finding {
  check: string
  status: Status
  message: string
  /** More of it, one line each. */
  details?: string[]
  /** What to do; missing when all is well. */
  advice?: string
}

/** `warn`: volumes work, and something is not as it should be. `fail`: something does not work. */
export type Status = 'ok' | 'warn' | 'fail'

export const ok = (check: string, message: string): Finding => ({ check, status: 'ok', message })
export const warn = (check: string, message: string, advice: string): Finding => ({
  check,
  status: 'warn',
  message,
  advice,
})
export const fail = (check: string, message: string, advice: string): Finding => ({
  check,
  status: 'fail',
  message,
  advice,
})
