import { type Colour, type Paint, plain, printable } from './paint.ts'

export interface Column<T> {
  title: string
  /** What stands in the cell; nothing is shown as `-`. */
  value(row: T): string | undefined
  /** For numbers, so that their units stand below one another. */
  right?: boolean
  colour?(row: T): Colour | undefined
}

const gap = '   '

/** A table as kubectl prints them: titles, padded columns, no borders. */
export function formatTable<T>(columns: readonly Column<T>[], rows: readonly T[], paint: Paint = plain): string {
  const shown = rows.map((row) => columns.map((column) => printable(column.value(row) ?? '') || '-'))
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...shown.map((cells) => cells[index]?.length ?? 0)),
  )
  const pad = (text: string, index: number) => {
    const width = widths[index] ?? 0
    if (columns[index]?.right) return text.padStart(width)
    return index === columns.length - 1 ? text : text.padEnd(width)
  }
  const titles = columns.map((column, index) => paint('bold', pad(column.title, index)))
  const lines = rows.map((row, rowIndex) =>
    columns.map((column, index) => {
      const text = pad(shown[rowIndex]?.[index] ?? '', index)
      const colour = column.colour?.(row)
      return colour ? paint(colour, text) : text
    }),
  )
  return [titles, ...lines].map((cells) => `${cells.join(gap)}\n`).join('')
}

/** Names with their values, one a line, the values below one another. A value of several lines is indented. */
export function formatFields(
  fields: readonly (readonly [name: string, value: string])[],
  paint: Paint = plain,
): string {
  const width = Math.max(...fields.map(([name]) => name.length)) + ':'.length + gap.length
  const indent = `\n${' '.repeat(width)}`
  return fields
    .map(([name, value]) => `${paint('bold', `${name}:`.padEnd(width))}${value.replaceAll('\n', indent)}\n`)
    .join('')
}
