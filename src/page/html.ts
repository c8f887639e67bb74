import { html as escapedHtml } from 'hono/html'
import type { HtmlEscapedString } from 'hono/utils/html'
import { printable } from '../text/paint.ts'

export type Html = HtmlEscapedString
type Value = string | number | bigint | Html | undefined | false | readonly Value[]

/** HTML in which every text is escaped, and steers nothing: names and messages come from anybody in the cluster. */
export function html(strings: TemplateStringsArray, ...values: readonly Value[]): Html {
  // Nothing here is a promise, so neither is what comes of it.
  return escapedHtml(strings, ...values.map(clean)) as Html
}

function clean(value: Value): unknown {
  if (typeof value === 'string') return printable(value)
  return Array.isArray(value) ? value.map(clean) : value
}
