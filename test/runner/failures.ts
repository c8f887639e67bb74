/** What failed, in short: a long run ends with it, as the beginning of its output may be out of reach by then. */
import { stripVTControlCharacters } from 'node:util'

const [firstLines, lastLines] = [4, 8]

/** Of a job's output, each failed test with the beginning and the end of its reason; else the job's last lines. */
export function summarise(output: string): string {
  const lines = stripVTControlCharacters(output).split('\n')
  const starts = lines.flatMap((line, at) => (/^\s*FAIL\s/.test(line) ? [at] : []))
  const parts = starts.map((start, number) => {
    const rest = lines.slice(start, starts[number + 1])
    // uvu ends a comparison with a line of eight spaces, says its message again, where it comes from, and then other sums.
    const end = rest.findIndex((line) => /^ {8}$/.test(line) || /^\s+(at |Total:)/.test(line))
    return shorten(rest.slice(0, end < 0 ? undefined : end))
  })
  return (parts.length > 0 ? parts : [shorten(lines)]).join('')
}

function shorten(lines: readonly string[]): string {
  const told = lines.filter((line) => line.trim() !== '').map((line) => `  ${line.slice(0, 300)}\n`)
  if (told.length <= firstLines + lastLines) return told.join('')
  return [...told.slice(0, firstLines), '  […]\n', ...told.slice(-lastLines)].join('')
}
