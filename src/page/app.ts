import { isIP } from 'node:net'
import { type Context, Hono } from 'hono'
import { toJson } from '../json.ts'
import { buildChain } from '../overview/chain/chain.ts'
import type { Chain, VolumeRecord } from '../overview/records.ts'
import { findSubjects } from '../overview/subject.ts'
import { messageOf } from '../volume/errors.ts'
import type { ClusterView, Seen } from './cluster-view.ts'
import { type FrameParts, frame, headers, iconFile } from './frame.ts'
import { html } from './html.ts'
import { overviewPage } from './overview-page.ts'
import type { Wish } from './select.ts'
import { volumePage } from './volume-page.ts'

export interface PageParts {
  view: Pick<ClusterView, 'take'>
  version: string
}

/**
 * The page, and the same as JSON. It has no login of its own: it answers only to who comes from this pod itself, as
 * `kubectl port-forward` does, for which the API server asks who is there; and only to a browser that means this
 * machine, so that no other site in it gets an answer.
 */
export function buildPage({ view, version }: PageParts): Hono {
  const app = new Hono()
  const show = (c: Context, parts: Omit<FrameParts, 'version'>, status: 200 | 403 | 404 | 503 = 200) =>
    c.html(frame({ ...parts, version }), status)
  const say = (c: Context, status: 403 | 404 | 503, title: string, message: string) =>
    c.req.path.startsWith('/api/')
      ? sendJson(c, { error: { message: `${title}: ${message}` } }, status)
      : show(
          c,
          { title, json: '/api/overview', body: html`<div class="title"><h1>${title}</h1></div><p>${message}</p>` },
          status,
        )

  app.use(async (c, next) => {
    if (c.req.method !== 'GET' && c.req.method !== 'HEAD')
      c.res = c.text('This page is read-only.\n', 405, { allow: 'GET, HEAD' })
    else if (!isLocal(c)) c.res = await say(c, 403, 'Forbidden', fromElsewhere)
    else await next()
    for (const [name, value] of Object.entries(headers)) c.header(name, value)
  })
  app.get('/', async (c) => show(c, overviewPage(await view.take(), readWish(c))))
  app.get('/api/overview', async (c) => sendJson(c, (await view.take()).overview))
  app.get('/volumes/:name', async (c) => {
    const { seen, volume, chain } = await findVolume(view, c.req.param('name'))
    if (!volume || !chain) return say(c, 404, 'No such volume', goneMessage)
    return show(c, volumePage(seen, volume, chain))
  })
  app.get('/api/volumes/:name', async (c) => {
    const { seen, volume, chain } = await findVolume(view, c.req.param('name'))
    if (!volume || !chain) return say(c, 404, 'No such volume', goneMessage)
    return sendJson(c, { at: seen.overview.at, volume, chain, notRead: seen.overview.notRead })
  })
  app.get('/icon.svg', (c) => c.body(iconFile, 200, { 'content-type': 'image/svg+xml' }))
  app.all('*', (c) => say(c, 404, 'No such page', 'There is nothing at this address.'))
  app.onError((error, c) => say(c, 503, 'The cluster cannot be read', messageOf(error)))
  return app
}

const goneMessage = 'It does not exist, or no longer does.'
const fromElsewhere = 'This page can be reached only through "kubectl port-forward", as localhost (docs/page.md).'

async function findVolume(
  view: PageParts['view'],
  name: string,
): Promise<{ seen: Seen; volume?: VolumeRecord | undefined; chain?: Chain | undefined }> {
  const seen = await view.take()
  const volume = seen.overview.volumes.find((one) => one.name === name)
  const subject = findSubjects(seen.facts).find((one) => one.name === name)
  return { seen, volume, chain: subject && buildChain(seen.facts, subject) }
}

function sendJson(c: Context, value: unknown, status: 200 | 403 | 404 | 503 = 200) {
  return c.body(toJson(value), status, { 'content-type': 'application/json' })
}

const longestText = 200

function readWish(c: Context): Wish {
  const page = (name: string) => {
    const text = c.req.query(name) ?? ''
    return /^[1-9][0-9]{0,5}$/.test(text) ? Number(text) : 1
  }
  return {
    text: (c.req.query('q') ?? '').trim().slice(0, longestText),
    troubled: c.req.query('troubled') === 'yes',
    nodesPage: page('nodes'),
    volumesPage: page('volumes'),
  }
}

/** Whether the one who asks is on this machine, or in this pod, and means it. */
function isLocal(c: Context): boolean {
  const { incoming } = c.env as { incoming?: { socket?: { remoteAddress?: string } } }
  const from = incoming?.socket?.remoteAddress?.replace(/^::ffff:/, '') ?? ''
  if (!isLoopback(from)) return false
  const { hostname } = new URL(c.req.url)
  return hostname === 'localhost' || isLoopback(hostname.replace(/^\[(.*)\]$/, '$1'))
}

const isLoopback = (address: string) => address === '::1' || (isIP(address) === 4 && address.startsWith('127.'))
