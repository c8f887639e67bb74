/** What a terminal shows, as a picture of text: an SVG that needs no font or script of ours. */

/** Of the colours that our commands use (src/text/paint.ts), by the codes that set them. */
const classes: Record<string, string> = { 1: 'bold', 2: 'dim', 31: 'red', 32: 'green', 33: 'yellow' }
const style = `text{font:14px ui-monospace,"SF Mono","DejaVu Sans Mono",Menlo,Consolas,monospace;fill:#d7deea;white-space:pre}
.bold{font-weight:700;fill:#fff}.dim{fill:#8592a8}.red{fill:#ff8f85}.green{fill:#7fd9a2}.yellow{fill:#f0c274}`
const [cell, line, padding] = [8.43, 21, 18]
const mostColumns = 118

interface Piece {
  text: string
  kind: string
}

/** `output`: with escape sequences, as a terminal gets it after `command`. */
export function pictureTerminal(command: string, output: string): string {
  const shown = output.replace(/\r\n/g, '\n').trimEnd().split('\n')
  const rows = [[{ text: `$ ${command}`, kind: 'bold' }], ...shown.flatMap((text) => wrap(readPieces(text)))]
  const columns = Math.max(...rows.map((pieces) => lengthOf(pieces)))
  const [width, height] = [Math.ceil(columns * cell + 2 * padding), rows.length * line + 2 * padding - 6]
  const texts = rows.map((pieces, index) => {
    const spans = pieces.map(({ text, kind }) => `<tspan${kind ? ` class="${kind}"` : ''}>${escapeXml(text)}</tspan>`)
    const length = (lengthOf(pieces) * cell).toFixed(1)
    return `<text x="${padding}" y="${padding + 11 + index * line}" textLength="${length}" xml:space="preserve">${spans.join('')}</text>`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escapeXml(command)}">
<style>${style}</style>
<rect width="100%" height="100%" rx="10" fill="#10161f"/>
${texts.join('\n')}
</svg>
`
}

const lengthOf = (pieces: readonly Piece[]) => pieces.reduce((sum, { text }) => sum + text.length, 0)

/** A line without what was written over, in pieces of one colour. */
function readPieces(text: string): Piece[] {
  const pieces: Piece[] = []
  let kind = ''
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about.
  for (const part of (text.split('\r').at(-1) ?? '').split(/(\u001b\[[0-9;?]*[a-zA-Z])/)) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about.
    const [, code] = /^\u001b\[([0-9;?]*)[a-zA-Z]$/.exec(part) ?? []
    if (code !== undefined) kind = classes[code] ?? ''
    else if (part !== '') pieces.push({ text: part, kind })
  }
  return pieces
}

/** Goes on below, as a terminal does where a line is too long. */
function wrap(pieces: readonly Piece[]): Piece[][] {
  const rows: Piece[][] = [[]]
  let left = mostColumns
  for (const { text, kind } of pieces)
    for (let rest = text; rest !== ''; ) {
      const fits = rest.slice(0, left)
      rows.at(-1)?.push({ text: fits, kind })
      rest = rest.slice(fits.length)
      left -= fits.length
      if (rest === '') continue
      rows.push([])
      left = mostColumns
    }
  return rows
}

function escapeXml(text: string): string {
  return text.replace(/[&<>"]/g, (one) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[one] ?? one)
}
