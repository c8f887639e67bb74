/** The provisioner's page in a real browser, of a real cluster in which some things are wrong. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import type { Browser, BrowserContextOptions, Page } from 'playwright-core'
import * as assert from 'uvu/assert'
import type { Chain, Overview } from '../../src/overview/records.ts'
import { openBrowser } from '../browser.ts'
import { suite } from '../suite.ts'
import { claim } from './claim-objects.ts'
import { enterOwnNetwork, ownAddress } from './network.ts'
import { poll } from './program.ts'
import { openTroubled } from './troubled.ts'

enterOwnNetwork()
const test = suite('page')
const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

let world: Awaited<ReturnType<typeof openTroubled>>
let browser: Browser
let url = ''

const ask = async (path: string, base = url) => {
  const answer = await fetch(`${base}${path}`)
  return { status: answer.status, text: await answer.text() }
}
const overview = async (base = url) => JSON.parse((await ask('/api/overview', base)).text) as Overview

/** Waits until what the page reads is as wanted: it reads at most every few seconds. */
async function seen(isSo: (found: Overview) => boolean): Promise<Overview> {
  let found = await overview()
  await poll(async () => {
    found = await overview()
    return isSo(found)
  }, 60_000)
  return found
}

/** Opens a page for `work`, and asserts that all was well in it: no error, and nothing asked of anybody else. */
async function visit(options: BrowserContextOptions, path: string, work: (page: Page) => Promise<void>): Promise<void> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options })
  try {
    const page = await context.newPage()
    const said: string[] = []
    page.on('console', (message) => said.push(message.text()))
    page.on('pageerror', (error) => said.push(String(error)))
    page.on('request', (request) => {
      if (!request.url().startsWith(`${url}/`)) said.push(`asked ${request.url()}`)
    })
    await page.goto(`${url}${path}`)
    await work(page)
    assert.equal(said, [])
  } finally {
    await context.close()
  }
}

/** What axe finds wrong with the page for people who do not see, or not well, or use no mouse. */
async function examine(page: Page): Promise<string[]> {
  await page.evaluate(axe)
  // In the page, where axe is.
  const found = await page.evaluate<{ violations: { id: string; nodes: { html: string }[] }[] }>('axe.run()')
  return found.violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
}

const isTooWide = (page: Page) => page.evaluate<boolean>('document.documentElement.scrollWidth > innerWidth')

test.before(async () => {
  world = await openTroubled()
  url = `http://localhost:${world.ports[0]}`
  await world.start()
  browser = await openBrowser()
})

test.after(async () => {
  await browser?.close()
  await world?.close()
})

test('without the rights that only it needs, the page shows what the provisioner may read, and names the rest', async () => {
  const { notRead, pools, volumes } = await overview()
  assert.equal(notRead.map(({ kind }) => kind).sort(), ['csidrivers', 'csinodes', 'events'])
  assert.equal([pools.length, volumes.length], [3, 3])
  await visit({}, '/', async (page) => {
    assert.match(await page.locator('.note').innerText(), /events: .*cannot list resource "events"/)
    assert.match(await page.locator('table').last().innerText(), /default\/data-postgres-0\n.*ready/s)
  })
  await world.giveRights()
  const { provisioner, volumes: all } = await seen(({ notRead }) => notRead.length === 0)
  assert.match(provisioner.leader ?? '', /./)
  assert.equal(
    all.map(({ pods }) => pods[0]?.name),
    ['postgres-0', 'search-0', 'search-1'],
  )
})

test('it shows what is wrong, what to do, and the room of each pool; on a phone, in the dark, and without scripts', async () => {
  await world.breakThings()
  await seen(({ nodes, volumes }) => nodes.some(({ state }) => state === 'away') && volumes.length === 6)
  const ways: Record<string, BrowserContextOptions> = {
    light: {},
    dark: { colorScheme: 'dark' },
    phone: { viewport: { width: 360, height: 740 } },
    'without scripts': { javaScriptEnabled: false },
  }
  for (const [way, options] of Object.entries(ways))
    await visit(options, '/', async (page) => {
      const text = await page.locator('main').innerText()
      for (const words of [
        /no node can take it/,
        /Make room/,
        /parameters must be of fsType/,
        /node node-3 is away: .*Kubelet stopped posting node status/,
        /Bring it back/,
        /1 GiB allocated, [\d.]+ (GiB|MiB) free of/,
      ])
        assert.match(text, words, way)
      assert.match(await page.locator('#volumes').innerText(), 'Volumes', way)
      assert.is(await page.locator('svg.bar[role=img]').count(), 4, way)
      if (options.javaScriptEnabled === false) return
      assert.not.ok(await isTooWide(page), way)
      assert.equal(await examine(page), [], way)
    })
})

test('it leads to each volume, and shows how far that has come', async () => {
  await visit({}, '/', async (page) => {
    await page.getByRole('link', { name: 'default/data-reports' }).first().click()
    await page.getByRole('heading', { level: 1, name: 'default/data-reports' }).waitFor()
    const chain = await page.locator('.chain').innerText()
    assert.match(chain, /Claim\s*done[\s\S]*Scheduling\s*fails\s*no node can take it[\s\S]*100 TiB is needed/)
    assert.equal(await examine(page), [])
  })
  const { volumes } = await overview()
  const name = volumes.find(({ claim }) => claim?.name === 'data-search-1')?.name
  const { chain } = JSON.parse((await ask(`/api/volumes/${name}`)).text) as { chain: Chain }
  assert.match(chain.links.find(({ status }) => status === 'fail')?.message ?? '', /node node-3 is away/)
  await visit({ viewport: { width: 360, height: 740 }, colorScheme: 'dark' }, `/volumes/${name}`, async (page) => {
    assert.not.ok(await isTooWide(page))
    assert.equal(await examine(page), [])
  })
})

test('it finds what is typed at once, and without scripts by its form', async () => {
  const shown = (page: Page) => page.locator('table[aria-labelledby=volumes] tbody tr')
  await visit({}, '/', async (page) => {
    await page.getByRole('searchbox', { name: 'Find' }).fill('postgres')
    await shown(page).nth(1).waitFor({ state: 'detached' })
    assert.match(await shown(page).innerText(), 'default/data-postgres-0')
    assert.match(page.url(), /\?q=postgres$/)
    await page.getByRole('searchbox', { name: 'Find' }).fill('')
    await page.getByLabel('Problems only').check()
    await page.getByText('default/data-postgres-0').waitFor({ state: 'detached' })
    assert.is(await shown(page).count(), 3)
  })
  await visit({ javaScriptEnabled: false }, '/', async (page) => {
    await page.getByRole('searchbox', { name: 'Find' }).fill('reports')
    await page.getByRole('button', { name: 'Find' }).click()
    await page.waitForURL(/\?q=reports$/)
    assert.is(await shown(page).count(), 1)
  })
})

test('what happens in the cluster comes by itself', async () => {
  await visit({}, '/', async (page) => {
    assert.is(await page.getByText('default/newcomer').count(), 0)
    await world.cluster.apply(claim('newcomer'))
    await page.getByText('default/newcomer').first().waitFor({ timeout: 30_000 })
  })
})

test('a provisioner that waits for its turn shows the same, and who leads', async () => {
  const leader = (await overview()).provisioner.leader
  await world.startStandby()
  const { provisioner, volumes } = await overview(`http://localhost:${world.ports[1]}`)
  assert.is(provisioner.leader, leader)
  assert.is(volumes.length, 7)
})

test('it answers only on this machine, and its neighbours such as metrics answer to all', async () => {
  const outside = `http://${ownAddress}:${world.ports[0]}`
  for (const path of ['/', '/api/overview', '/volumes/x', '/nowhere']) assert.is((await ask(path, outside)).status, 403)
  assert.match((await ask('/', outside)).text, 'kubectl port-forward')
  for (const path of ['/metrics', '/healthz', '/readyz']) assert.is((await ask(path, outside)).status, 200)
})

test.run()
