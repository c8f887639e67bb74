/** Pieces of HTML that more than one page has. */
import type { Link, NodeRecord, Problem, VolumeRecord } from '../overview/records.ts'
import { formatBytes, formatShare } from '../text/quantity.ts'
import { type Html, html } from './html.ts'
import type { Room } from './select.ts'

export type Tone = Link['status']

const icons: Record<Tone, Html> = {
  ok: html`<path d="M2.5 6.5 5 9l4.5-6"/>`,
  wait: html`<circle cx="6" cy="6" r="4.5"/><path d="M6 3.5V6l1.7 1.2"/>`,
  warn: html`<path d="M6 2.2v4.3M6 9.6v.01"/>`,
  fail: html`<path d="m3 3 6 6M9 3 3 9"/>`,
  open: html`<path d="M3.5 6h5"/>`,
}

export const icon = (tone: Tone): Html => html`<svg viewBox="0 0 12 12" aria-hidden="true">${icons[tone]}</svg>`

/** A word with a colour and a sign, none of which says more than the word. */
export const pill = (tone: Tone, word: string): Html => html`<span class="pill ${tone}">${icon(tone)}${word}</span>`

export const words: Record<Tone, string> = {
  ok: 'done',
  wait: 'waits',
  warn: 'warning',
  fail: 'fails',
  open: 'open',
}

/** Fronts as people know them. */
export const frontNames = { flex: 'FlexVolume', csi: 'CSI' } as const

export function volumePill({ state, problems }: VolumeRecord): Html {
  const tones: Record<VolumeRecord['state'], Tone> = {
    pending: 'wait',
    making: 'wait',
    ready: 'ok',
    growing: 'wait',
    removing: 'wait',
    released: 'open',
    lost: 'fail',
    stuck: 'fail',
    failing: 'fail',
    orphaned: 'warn',
  }
  return pill(problems.some(({ status }) => status === 'fail') ? 'fail' : tones[state], state)
}

export function nodePill({ state, schedulable }: NodeRecord): Html {
  if (state !== 'ready') return pill('fail', state)
  return schedulable ? pill('ok', 'ready') : pill('open', 'cordoned')
}

/** What is in a pool, for the eye; `sizes()` says the same in words. */
export function bar(room: Room): Html {
  const { madeBytes, pendingBytes, freeBytes, sizeBytes } = room
  const taken = madeBytes + pendingBytes
  const whole = taken > sizeBytes ? taken : sizeBytes
  // A size that is there is seen, however small.
  const share = (part: bigint) =>
    whole === 0n || part === 0n ? 0 : Math.max(0.6, Number((part * 10_000n) / whole) / 100)
  const [made, pending] = [share(madeBytes), share(pendingBytes)]
  return html`<svg class="bar" role="img" aria-label="${formatShare(taken, sizeBytes)} allocated, ${formatBytes(freeBytes)} free"><rect class="free" width="100%" height="100%"/><rect class="made" width="${made}%" height="100%"/>${pending > 0 && html`<rect class="pending" x="${made}%" width="${pending}%" height="100%"/>`}</svg>`
}

/** What is allocated, and how much of that to volumes that are to be made. */
export function allocated({ madeBytes, pendingBytes }: Room): string {
  const pending = pendingBytes > 0n ? `, ${formatBytes(pendingBytes)} of it pending` : ''
  return `${formatBytes(madeBytes + pendingBytes)} allocated${pending}`
}

export function sizes(room: Room): Html {
  const { freeBytes, sizeBytes } = room
  return html`<p class="sizes">${allocated(room)}, <strong>${formatBytes(freeBytes)} free</strong> of ${formatBytes(sizeBytes)}</p>`
}

/** The pattern of what is pending, once a page. */
export const hatch = html`<svg class="unseen" aria-hidden="true"><defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6"/><path d="M1 0v6"/></pattern></defs></svg>`

export const legend = html`<ul class="legend" aria-label="Legend">
<li><svg class="bar" aria-hidden="true"><rect class="made" width="100%" height="100%"/></svg>allocated to volumes</li>
<li><svg class="bar" aria-hidden="true"><rect class="pending" width="100%" height="100%"/></svg>pending: allocated to volumes not created yet</li>
<li><svg class="bar" aria-hidden="true"><rect class="free" width="100%" height="100%"/></svg>free</li></ul>`

/** What else there is to say of a problem, and what to do. */
export function more({ details = [], advice }: Pick<Problem, 'details' | 'advice'>): Html {
  return html`${details.length > 0 && html`<ul class="details">${details.map((line) => html`<li>${line}</li>`)}</ul>`}${advice !== undefined && html`<p class="advice"><span>${advise(advice)}</span></p>`}`
}

/** Advice quotes what is to be typed. */
function advise(advice: string): Html[] {
  return advice.split(/"([^"]+)"/).map((part, index) => (index % 2 === 1 ? html`<code>${part}</code>` : html`${part}`))
}

/** The first problem, in a row of a table. */
export function firstProblem(problems: readonly Problem[]): Html | false {
  const first = problems.find(({ status }) => status === 'fail') ?? problems[0]
  if (!first) return false
  const others = problems.length - 1
  return html`<span class="says-${first.status}"><span class="unseen">${words[first.status]}: </span>${first.message}</span>${others > 0 && html`<span class="under">and ${others} more</span>`}`
}
