/** Transcripts in Markdown, as a person has them on a terminal: what is typed, and what is to come of it. */

export interface Step {
  /** One command, of one line or more. */
  command: string
  /** Lines of the output; `…` stands for anything, and a line `…` for any lines. */
  expected: string[]
}

/** The steps in the `console` blocks of a page: a command stands behind `$ `, and its here-document below it. */
export function parseTranscript(text: string): Step[] {
  const steps: Step[] = []
  for (const [, block = ''] of text.matchAll(/^```console\n(.*?)^```$/gms)) {
    let end: string | undefined
    for (const line of block.trimEnd().split('\n')) {
      const last = steps.at(-1)
      if (end !== undefined && last) {
        last.command += `\n${line}`
        if (line === end) end = undefined
      } else if (line.startsWith('$ ')) {
        steps.push({ command: line.slice(2), expected: [] })
        end = /<< (\w+)$/.exec(line)?.[1]
      } else last?.expected.push(line)
    }
  }
  return steps
}

/** Whether an output is what was expected, whatever the width of its columns. */
export function isAsExpected(output: string, expected: readonly string[]): boolean {
  const squeeze = (text: string) => text.trim().replaceAll(/[ \t]+/g, ' ')
  const patterns = expected.map((line) =>
    squeeze(line) === '…' ? '(?:.*\n)*' : `${squeeze(line).split('…').map(RegExp.escape).join('.*')} *\n`,
  )
  const lines = output.trim() === '' ? '' : output.trimEnd().split('\n').map(squeeze).join('\n').concat('\n')
  return new RegExp(`^${patterns.join('')}$`).test(lines)
}
