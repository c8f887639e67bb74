import { JSONPath } from 'jsonpath-plus'
import { messageOf, VolumeError } from '../volume/errors.ts'

/** A piece of a template: text as it is, the values at a path, or pieces for each of the values at a path. */
type Piece = { text: string } | { path: string; pieces?: readonly Piece[] }

/**
 * The values that a template asks of a document, as kubectl has it (kubernetes.io/docs/reference/kubectl/jsonpath): text,
 * paths in braces, `{"\n"}`, and `{range …}` to `{end}`. Throws `invalid`.
 */
export function formatJsonPath(template: string, document: unknown): string {
  return formatPieces(parseTemplate(template), document)
}

/** Throws `invalid` for what is no template. */
export function checkTemplate(template: string): void {
  parseTemplate(template)
}

/** The values at a path of a document: `{.a[*].b}`, `.a[*].b` or `a[*].b`. Throws `invalid`. */
export function valuesAt(path: string, document: unknown): unknown[] {
  return evaluate(/^\{(.*)\}$/s.exec(path)?.[1] ?? path, document)
}

function formatPieces(pieces: readonly Piece[], value: unknown): string {
  return pieces
    .map((piece) => {
      if ('text' in piece) return piece.text
      const values = evaluate(piece.path, value)
      return piece.pieces
        ? values.map((each) => formatPieces(piece.pieces ?? [], each)).join('')
        : values.map((each) => (typeof each === 'string' ? each : JSON.stringify(each))).join(' ')
    })
    .join('')
}

function parseTemplate(template: string): Piece[] {
  // A brace in quotes, as in {"}"}, is none.
  const tokens = template.match(/\{(?:"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^{}"'])*\}|[^{}]+|[{}]/gs) ?? []
  const open: { path: string; pieces: Piece[] }[] = [{ path: '', pieces: [] }]
  for (const token of tokens) {
    const inner = /^\{(.*)\}$/s.exec(token)?.[1]?.trim()
    const around = open.at(-1)?.pieces ?? []
    if (inner === undefined) {
      if (token === '{' || token === '}') throw wrong(template, `each { must have its }, and there is one without`)
      around.push({ text: token })
    } else if (/^range\s/.test(inner)) {
      const range = { path: inner.slice('range'.length).trim(), pieces: [] }
      around.push(range)
      open.push(range)
    } else if (inner === 'end') {
      if (open.length === 1) throw wrong(template, 'each {end} must have its {range}, and there is one without')
      open.pop()
    } else if (/^(".*"|'.*')$/s.test(inner)) around.push({ text: unquote(inner) })
    else if (inner === '') throw wrong(template, 'there must be a path between { and }')
    else around.push({ path: inner })
  }
  if (open.length > 1) throw wrong(template, 'each {range} must have its {end}, and there is one without')
  return open[0]?.pieces ?? []
}

const escapes: Record<string, string> = { n: '\n', t: '\t', r: '\r' }

function unquote(text: string): string {
  return text.slice(1, -1).replace(/\\(.)/gs, (_, character: string) => escapes[character] ?? character)
}

function evaluate(expression: string, json: unknown): unknown[] {
  const path = `$${/^[.[]/.test(expression) ? '' : '.'}${expression}`
    .replace(/^\$\.[$@](?=$|[.[])/, '$')
    // The library knows the last of a list only as a slice, and several keys only without quotes.
    .replace(/\[(-[0-9]+)\]/g, (_, index: string) => `[${index}:${index === '-1' ? '' : Number(index) + 1}]`)
    .replace(/\[\s*('[^']+'(?:\s*,\s*'[^']+')+)\s*\]/g, (_, keys: string) => `[${keys.replace(/['\s]/g, '')}]`)
  const find = (ignoreEvalErrors: boolean): unknown[] =>
    JSONPath({ path, json: json as object, eval: 'safe', wrap: true, ignoreEvalErrors })
  try {
    return find(false)
  } catch (error) {
    // A filter that looks below a field which a record does not have passes over that record.
    if (/Cannot read properties of (undefined|null)/.test(messageOf(error))) return find(true)
    throw wrong(expression, messageOf(error).replace(/^jsonPath: /, ''))
  }
}

function wrong(template: string, why: string): VolumeError {
  return new VolumeError('invalid', `Cannot use the JSONPath ${template}: ${why}.`)
}
