import { createHash } from 'node:crypto'
import { raw } from 'hono/html'
import { type Html, html } from './html.ts'
import { hatch } from './parts.ts'
import { script } from './script.ts'
import { style } from './style.ts'

const sourceOf = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`

/** What a browser is held to: our own style and script, nothing from elsewhere, in no frame, and nothing is kept. */
export const headers: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy': [
    "default-src 'none'",
    `style-src ${sourceOf(style)}`,
    `script-src ${sourceOf(script)}`,
    "connect-src 'self'",
    "img-src 'self'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
}

const mark = `<rect x="3" y="4" width="26" height="7" rx="2.5" fill="#2563eb"/><rect x="3" y="13" width="17" height="7" rx="2.5" fill="#2563eb"/><rect x="3" y="22" width="22" height="7" rx="2.5" fill="#2563eb"/><path d="M22 13h4.5a2.5 2.5 0 0 1 2.5 2.5v2a2.5 2.5 0 0 1-2.5 2.5H22" fill="none" stroke="#7aa2f7" stroke-width="2"/>`

/** The sign of the page, also as a file for the browser's tab. */
export const iconFile = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">${mark}</svg>\n`

export interface FrameParts {
  /** Of the page, for the browser's tab. */
  title: string
  /** When what is shown was read; nothing: it could not be read. */
  at?: Date
  /** Stays as it is while the rest is shown anew. */
  fixed?: Html | false
  body: Html
  version: string
  /** Path of the same as JSON. */
  json: string
}

/** A whole page. What changes as the cluster does is in `#read` and `#shown`. */
export function frame({ title, at, fixed, body, version, json }: FrameParts): Html {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<link rel="icon" href="/icon.svg" type="image/svg+xml">
<style>${raw(style)}</style>
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
${hatch}
<header class="top"><div class="wide">
<a class="brand" href="/"><svg viewBox="0 0 32 32" aria-hidden="true">${raw(mark)}</svg>elastic-local</a>
<p class="read" id="read">${at ? html`Read at <time datetime="${at.toISOString()}">${at.toISOString().slice(11, 19)} UTC</time>` : html`Not read`}</p>
<label class="live" hidden><input type="checkbox" id="live" checked>Live</label>
</div></header>
<main class="wide" id="main" tabindex="-1">
${fixed}
<div id="shown">
${body}
</div>
</main>
<footer><div class="wide"><span>elastic-local ${version}</span><a href="${json}">JSON</a><span>Read-only</span></div></footer>
<script>${raw(script)}</script>
</body>
</html>
`
}
