import { type Colour, type Paint, plain, printable } from './paint.ts'
import { cutMiddle, wrap } from './wrap.ts'

export interface Column<T> {
  title: string
  /** What stands in the cell; nothing is shown as `-`. */
  value(row: T): string | undefined
  /** For numbers, so that their units stand below one another. */
  right?: boolean
  /** For names: a long one loses its middle where the table is too wide. */
  cut?: boolean
  colour?(row: T): Colour | undefined
}

/** How a person, or a program, wants to see a text. */
export interface Look {
  paint?: Paint
  /** How many characters a line may have; any number where there is none. */
  width?: number | undefined
  /** The rows of a table alone, for programs: no titles, and nothing below. */
  bare?: boolean
}

const gap = '   '
/** Of a name that is cut, at least so much stays. */
const leastCut = 8

/** A table as kubectl prints them: titles, padded columns, no borders. */
export function formatTable<T>(
  columns: readonly Column<T>[],
  rows: readonly T[],
  { paint = plain, width, bare }: Look = {},
): string {
  const whole = rows.map((row) => columns.map((column) => printable(column.value(row) ?? '') || '-'))
  const titles = bare ? [] : [columns.map(({ title }) => title)]
  const natural = columns.map((_, index) =>
    Math.max(...[...titles, ...whole].map((cells) => cells[index]?.length ?? 0), 0),
  )
  const widths = width === undefined ? natural : fit(columns, natural, width)
  const pad = (whole: string, index: number) => {
    const width = widths[index] ?? 0
    const text = cutMiddle(whole, width)
    if (columns[index]?.right) return text.padStart(width)
    return index === columns.length - 1 ? text : text.padEnd(width)
  }
  const lines = rows.map((row, rowIndex) =>
    columns.map((column, index) => {
      const text = pad(whole[rowIndex]?.[index] ?? '', index)
      const colour = column.colour?.(row)
      return colour ? paint(colour, text) : text
    }),
  )
  const head = titles.map((cells) => cells.map((title, index) => paint('bold', pad(title, index))))
  return [...head, ...lines].map((cells) => `${cells.join(gap)}\n`).join('')
}

/** The widths of columns that are not too wide together, as far as names can be cut; the longest lose first. */
function fit<T>(columns: readonly Column<T>[], natural: readonly number[], width: number): number[] {
  const widths = [...natural]
  const total = () => widths.reduce((sum, one) => sum + one + gap.length, -gap.length)
  const spare = (index: number) => {
    const { cut, title = '' } = columns[index] ?? {}
    return cut ? (widths[index] ?? 0) - Math.max(leastCut, title.length) : 0
  }
  while (total() > width) {
    const [widest] = [...widths.keys()].filter((index) => spare(index) > 0).sort((a, b) => spare(b) - spare(a))
    if (widest === undefined) break
    widths[widest] = (widths[widest] ?? 0) - 1
  }
  return widths
}

/** Something to be said of a row of a table. */
export interface Note {
  colour?: Colour
  /** The row that it is about. */
  subject: string
  message: string
}

/** The table, and below it what is to be said of its rows. */
export function withNotes(table: string, notes: readonly Note[], { paint = plain, width, bare }: Look = {}): string {
  if (bare || notes.length === 0) return table
  const lines = notes.flatMap(({ colour, subject, message }) => {
    const mark = colour ? `${paint(colour, '!')} ` : ''
    return wrap(`${mark}${subject}: ${printable(message)}`, width).map((line, index) =>
      index > 0 ? `  ${line}` : line,
    )
  })
  return `${table}\n${lines.join('\n')}\n`
}

/** Names with their values, one a line, the values below one another. A value of several lines is indented. */
export function formatFields(
  fields: readonly (readonly [name: string, value: string])[],
  { paint = plain, width = Number.POSITIVE_INFINITY }: Look = {},
): string {
  const left = Math.max(...fields.map(([name]) => name.length)) + ':'.length + gap.length
  const indent = `\n${' '.repeat(left)}`
  const fill = (value: string) =>
    value.split('\n').flatMap((line) => {
      const [, margin = '', text = ''] = /^( *)(.*)$/s.exec(line) ?? []
      return wrap(text, width - left - margin.length).map((part) => `${margin}${part}`)
    })
  return fields
    .map(([name, value]) => `${paint('bold', `${name}:`.padEnd(left))}${fill(value).join(indent)}\n`)
    .join('')
}
