import { createHash } from 'node:crypto'
import { Hono } from 'hono'
import * as assert from 'uvu/assert'
import { claimsPath, ledgerPath, volumesPath } from '../../test/memory-cluster.ts'
import { nodePath, podsPath, World } from '../../test/overview-world.ts'
import { suite } from '../../test/suite.ts'
import { toJson } from '../json.ts'
import { buildOverview } from '../overview/overview.ts'
import type { Chain } from '../overview/records.ts'
import { buildPage } from './app.ts'
import { ClusterView } from './cluster-view.ts'

const test = suite('page')

/** The page of a cluster in memory; `ask` comes from this machine unless told otherwise. */
function open(world: World) {
  const state = { failure: undefined as string | undefined }
  const read = async () => {
    if (state.failure !== undefined) throw new Error(state.failure)
    return await world.read()
  }
  const app = buildPage({ view: new ClusterView({ read, now: () => 0, freshMs: 0 }), version: '1.2.3' })
  const ask = async (path: string, { method = 'GET', from = '127.0.0.1', host = 'localhost:9811' } = {}) =>
    await app.request(`http://${host}${path}`, { method }, { incoming: { socket: { remoteAddress: from } } })
  const show = async (path: string) => {
    const response = await ask(path)
    return { status: response.status, text: await response.text() }
  }
  return { state, app, ask, show }
}

/** The text of the page, as a person reads it. */
const wordsOf = (text: string) =>
  text
    .replace(/<(style|script)>.*?<\/\1>/gs, '')
    .replace(/<[^>]+>/g, ' ')
    .replace(/\s+/g, ' ')

test('it shows nodes, pools and volumes with their pods, who leads, and that all is well', async () => {
  const world = new World()
  world.addBound('data', 'node-1')
  world.addPod('web', { claims: ['data'], node: 'node-1', phase: 'Running' })
  const { status, text } = await open(world).show('/')
  assert.is(status, 200)
  const words = wordsOf(text)
  assert.match(words, 'Healthy no problems')
  assert.match(words, 'Leader provisioner renewed 0s ago, 1 of 1 pod ready')
  assert.match(words, '19.5 GiB free 512 MiB allocated of 20 GiB (3%)')
  assert.match(words, 'node-1 ready vg LVM 512 MiB allocated, 9.5 GiB free of 10 GiB 1')
  assert.match(words, /default\/data elastic-local, ext4, FlexVolume ready 512 MiB node-1 web/)
  assert.match(text, 'aria-label="5% allocated, 9.5 GiB free"')
})

test('it shows what is wrong and what to do, and an empty cluster says how to begin', async () => {
  const world = new World()
  world.addClaim('data', { size: '1Ti' })
  world.addPod('web', { claims: ['data'], unschedulable: '0/2 nodes are available' })
  const words = wordsOf((await open(world).show('/')).text)
  assert.match(words, '1 problem 1 fail')
  assert.match(words, 'fails default/data no node can take it')
  assert.match(words, 'node-1, node-2: has 10 GiB of 10 GiB free, and 1 TiB is needed')
  assert.match(words, 'Make room (delete claims')
  const empty = wordsOf((await open(new World([])).show('/')).text)
  assert.match(empty, 'There are no nodes.')
  assert.match(empty, 'kubectl apply -f config/pvc-sample.yaml')
})

test('room that is allocated to a volume to be made is told from the rest', async () => {
  const world = new World(['node-1'])
  const volume = world.addBound('data', 'node-1')
  world.promise('node-1', volume, { pendingFor: 'default/data' })
  const { text } = await open(world).show('/')
  assert.match(wordsOf(text), '512 MiB allocated, 512 MiB of it pending, 9.5 GiB free of 10 GiB')
  assert.match(text, 'class="pending" x="0%" width="5%"')
})

test('the page of a volume shows its chain, link by link', async () => {
  const world = new World()
  const name = world.addBound('data', 'node-1')
  world.server.change(nodePath('node-1'), {
    status: { conditions: [{ type: 'Ready', status: 'False', message: 'dead' }] },
  })
  const { show } = open(world)
  const { status, text } = await show(`/volumes/${name}`)
  assert.is(status, 200)
  const words = wordsOf(text)
  assert.match(
    words,
    /Claim done default\/data wants 512 MiB .*Node fails node node-1 is away: not ready .*Volume open/,
  )
  assert.match(words, 'kubectl elastic_local explain pvc/data -n default')
  assert.match(words, name)
  const claim = world.addClaim('later')
  assert.match(wordsOf((await show(`/volumes/${claim}`)).text), 'Scheduling waits no pod uses the claim yet')
  assert.is((await show('/volumes/pvc-gone')).status, 404)
})

test('it looks for words, and for what is troubled', async () => {
  const world = new World()
  world.addBound('alpha', 'node-1')
  world.addBound('beta', 'node-2')
  const { show } = open(world)
  const found = wordsOf((await show('/?q=ALPHA')).text)
  assert.match(found, 'default/alpha')
  assert.not.match(found, 'default/beta')
  assert.match((await show('/?q=ALPHA')).text, 'value="ALPHA"')
  assert.match(wordsOf((await show('/?q=nobody')).text), 'Nothing here matches &quot;nobody&quot;.')
  assert.match(wordsOf((await show('/?troubled=yes')).text), 'Nothing here has a problem.')
  assert.is((await show('/?nodes=0&volumes=x&volumes=-1')).status, 200)
})

test('the same is there as JSON: the overview as it is a contract, and a volume with its chain', async () => {
  const world = new World()
  const name = world.addBound('data', 'node-1')
  const { ask } = open(world)
  const overview = (await (await ask('/api/overview')).json()) as { volumes: unknown[] }
  assert.equal(overview, JSON.parse(toJson(buildOverview(await world.read()))))
  const { volume, chain, notRead } = (await (await ask(`/api/volumes/${name}`)).json()) as {
    volume: unknown
    chain: Chain
    notRead: unknown
  }
  assert.equal([volume, notRead], [overview.volumes[0], []])
  assert.is(chain.links[0]?.link, 'claim')
  const gone = await ask('/api/volumes/gone')
  assert.is(gone.status, 404)
  assert.match(await gone.text(), /^{"error":{"message":"No such volume/)
})

test('nothing that comes from the cluster, or from who asks, is HTML, an address or a steering character', async () => {
  const hostile = `"><script>alert(1)</script><img src=x onerror='alert(2)'>\u202e\u0007javascript:alert(3)`
  const world = new World()
  const name = world.addBound('data', 'node-1')
  const pool = { name: hostile, driverKind: 'LOOP', capacityBytes: '1', unitBytes: '1' }
  world.server.change(ledgerPath('node-1'), { data: { '_pool.default': JSON.stringify(pool) } })
  world.server.change(`${claimsPath}/data`, { spec: { storageClassName: hostile } })
  world.addPod(hostile, { claims: ['data', 'other'], node: hostile, phase: hostile })
  world.server.create(claimsPath, { ...world.server.find(`${claimsPath}/data`), metadata: { name: hostile, uid: 'u' } })
  world.say(`${volumesPath}/${name}`, 'VolumeNotMade', hostile)
  world.say(nodePath('node-1'), 'PoolProblem', hostile)
  world.server.change(`/api/v1/namespaces/elastic-local/pods/daemon-node-1`, {
    status: { containerStatuses: [{ restartCount: 1, state: { waiting: { reason: hostile } } }], conditions: [] },
  })
  world.lead(new Date(0).toISOString(), hostile)
  assert.ok(world.server.list(podsPath).length > 0)
  const { show } = open(world)
  const volumes = buildOverview(await world.read()).volumes.map(
    (volume) => `/volumes/${encodeURIComponent(volume.name)}`,
  )
  const query = `/?q=${encodeURIComponent(hostile)}`
  for (const path of ['/', query, ...volumes, '/volumes/gone', `/${encodeURIComponent(hostile)}`]) {
    const { text } = await show(path)
    const tags = [...text.matchAll(/<([a-z0-9]+)([^>]*)>/g)]
    assert.not.ok(
      tags.some(([, tag = '']) => ['img', 'iframe', 'object'].includes(tag)),
      path,
    )
    assert.is(tags.filter(([, tag]) => tag === 'script').length, 1, path)
    assert.not.ok(
      tags.some(([, , attributes = '']) => /\son[a-z]+=|style=/.test(attributes.replace(/"[^"]*"/g, '""'))),
      path,
    )
    for (const [, link = ''] of text.matchAll(/(?:href|src|action)="([^"]*)"/g)) assert.match(link, /^[/#]/, path)
    // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it is about.
    assert.not.match(text, /[\u0000-\u0008\u202a-\u202e\u2066-\u2069]/, path)
  }
  assert.match((await show('/')).text, '&lt;script&gt;alert(1)&lt;/script&gt;')
})

test('a browser is held to our own style and script, keeps nothing, and tells nobody', async () => {
  const { ask } = open(new World())
  for (const path of ['/', '/volumes/gone', '/nowhere', '/api/overview']) {
    const { headers } = await ask(path)
    assert.is(headers.get('cache-control'), 'no-store')
    assert.is(headers.get('x-content-type-options'), 'nosniff')
    assert.is(headers.get('referrer-policy'), 'no-referrer')
    assert.is(headers.get('x-frame-options'), 'DENY')
    assert.match(headers.get('content-security-policy') ?? '', /^default-src 'none'; /)
    assert.not.match(headers.get('content-security-policy') ?? '', /unsafe|\*|https?:/)
  }
  const response = await ask('/')
  const policy = response.headers.get('content-security-policy') ?? ''
  const text = await response.text()
  for (const tag of ['style', 'script']) {
    const inside = new RegExp(`<${tag}>(.*?)</${tag}>`, 's').exec(text)?.[1] ?? ''
    assert.match(policy, `${tag}-src 'sha256-${createHash('sha256').update(inside).digest('base64')}'`)
  }
  assert.is((await ask('/icon.svg')).headers.get('content-type'), 'image/svg+xml')
})

test('it only shows: GET and HEAD', async () => {
  const { ask } = open(new World())
  const head = await ask('/', { method: 'HEAD' })
  assert.equal([head.status, await head.text()], [200, ''])
  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
    const refused = await ask('/', { method })
    assert.equal([refused.status, refused.headers.get('allow')], [405, 'GET, HEAD'])
  }
})

test('it answers only to who comes from this machine or pod, and calls it so', async () => {
  const { ask } = open(new World())
  const status = async (where: { from?: string; host?: string }) => (await ask('/api/overview', where)).status
  for (const from of ['127.0.0.1', '127.8.9.1', '::1', '::ffff:127.0.0.1']) assert.is(await status({ from }), 200)
  for (const from of ['10.0.0.7', '::ffff:10.0.0.7', 'fe80::1', '']) assert.is(await status({ from }), 403)
  for (const host of ['localhost', '127.0.0.1:80', '[::1]:9811']) assert.is(await status({ host }), 200)
  // Another site in the same browser, whose name was made to mean this machine.
  for (const host of ['evil.example:9811', 'localhost.evil.example', '10.0.0.7']) assert.is(await status({ host }), 403)
  assert.match(await (await ask('/', { from: '10.0.0.7' })).text(), 'kubectl port-forward')
})

test('what is served beside it, such as metrics, is served to everybody', async () => {
  const { app } = open(new World())
  const all = new Hono().get('/metrics', (c) => c.text('figures')).route('/', app)
  const env = { incoming: { socket: { remoteAddress: '10.0.0.7' } } }
  assert.is(await (await all.request('/metrics', {}, env)).text(), 'figures')
  assert.is((await all.request('/', {}, env)).status, 403)
})

test('while the cluster cannot be read it says so, and shows what was read before', async () => {
  const world = new World()
  world.addBound('data', 'node-1')
  const { state, show, ask } = open(world)
  state.failure = 'Cannot reach the API server.'
  const { status, text } = await show('/')
  assert.is(status, 503)
  assert.match(wordsOf(text), 'The cluster cannot be read Cannot reach the API server.')
  assert.is((await ask('/api/overview')).status, 503)
  state.failure = undefined
  await show('/')
  state.failure = 'Cannot reach the API server.'
  const words = wordsOf((await show('/')).text)
  assert.match(words, 'The cluster cannot be read; this is its last known state. Cannot reach the API server.')
  assert.match(words, 'default/data')
})

test('what the provisioner may not read is named, and all else is shown', async () => {
  const world = new World()
  world.addBound('data', 'node-1')
  const { app } = open(world)
  assert.ok(app)
  const view = new ClusterView({
    now: () => 0,
    read: async () => ({ ...(await world.read()), notRead: new Map([['pods', 'GET /api/v1/pods was refused (403)']]) }),
  })
  const env = { incoming: { socket: { remoteAddress: '::1' } } }
  const text = await (await buildPage({ view, version: '1' }).request('http://localhost/', {}, env)).text()
  assert.match(wordsOf(text), 'Some of it is not shown , as the provisioner may not read it')
  assert.match(wordsOf(text), 'pods: GET /api/v1/pods was refused (403)')
  assert.match(wordsOf(text), 'default/data')
})

test.run()
