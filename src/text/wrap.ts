import { stripVTControlCharacters } from 'node:util'

/** The lines of a text, broken at blanks so that each fits `width`; a longer word has a line of its own. */
export function wrap(text: string, width = Number.POSITIVE_INFINITY): string[] {
  return joinWords(text.split(' '), width)
}

/** A command line in lines that a shell reads as one, broken where it has a blank outside of quotes. */
export function wrapCommand(line: string, width: number): string[] {
  const words = line.match(/(?:[^\s"']|"(?:\\.|[^"\\])*"|'[^']*')+/g) ?? []
  const lines = joinWords(words, width - continued.length)
  return lines.map((text, index) => (index < lines.length - 1 ? `${text}${continued}` : text))
}

const continued = ' \\'

function joinWords(words: readonly string[], width: number): string[] {
  const lines = ['']
  for (const word of words) {
    const line = lines.at(-1) ?? ''
    if (line && shownLength(line) + 1 + shownLength(word) > width) lines.push(word)
    else lines[lines.length - 1] = line ? `${line} ${word}` : word
  }
  return lines
}

/** Without the escapes that colour it. */
function shownLength(text: string): number {
  return stripVTControlCharacters(text).length
}

/** A text that does not fit, without its middle: both ends of a name tell it from others. */
export function cutMiddle(text: string, width: number): string {
  if (text.length <= width) return text
  const end = Math.floor((width - 1) / 2)
  return `${text.slice(0, width - 1 - end)}…${end > 0 ? text.slice(-end) : ''}`
}
