import { type Colour, type Paint, printable } from './paint.ts'
import { wrap } from './wrap.ts'

/** One line of a checklist, and below it what there is to say and to do. */
export interface ChecklistItem {
  title: string
  status: 'ok' | 'wait' | 'warn' | 'fail' | 'open'
  message: string
  details?: readonly string[]
  advice?: string
}

/** Where it is shown: on a terminal, which has a width. */
export interface ChecklistLook {
  paint: Paint
  terminal: boolean
  width?: number | undefined
}

/** Marks on a terminal, and words where a program may read them. */
const marks: Record<ChecklistItem['status'], { mark: string; word: string; colour: Colour }> = {
  ok: { mark: '✔', word: 'OK  ', colour: 'green' },
  wait: { mark: '…', word: 'WAIT', colour: 'yellow' },
  warn: { mark: '!', word: 'WARN', colour: 'yellow' },
  fail: { mark: '✘', word: 'FAIL', colour: 'red' },
  open: { mark: '·', word: '-   ', colour: 'dim' },
}

/** A list that is ticked off, its titles and messages below one another. */
export function formatChecklist(
  items: readonly ChecklistItem[],
  { paint, terminal, width: columns = Number.POSITIVE_INFINITY }: ChecklistLook,
): string {
  const width = Math.max(0, ...items.map(({ title }) => title.length))
  const lines = items.map(({ title, status, message, details = [], advice }) => {
    const { mark, word, colour } = marks[status]
    const shown = terminal ? mark : word
    const indent = ' '.repeat(shown.length + 2 + width + 2)
    const fill = (text: string) => wrap(printable(text), columns - indent.length)
    // The lines of one point go on below its text.
    const fillPoint = (mark: string, text: string) =>
      wrap(printable(text), columns - indent.length - 2).map((line, index) => `${index === 0 ? mark : ' '} ${line}`)
    const [first = '', ...more] = fill(message)
    const below = [...details.flatMap((detail) => fillPoint('-', detail)), ...(advice ? fillPoint('→', advice) : [])]
    return [
      `${paint(colour, shown)}  ${title.padEnd(width)}  ${first}`,
      ...[...more, ...below].map((line) => `${indent}${line}`),
    ]
  })
  return lines.map((group) => group.map((line) => `${line}\n`).join('')).join('')
}
