import { once } from 'node:events'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { type InstallRequest, install } from './install.ts'

const test = suite('install')
const log = { debug: () => {} }
let folder: string
let request: InstallRequest
let driver: string
let target: string
let server: Server
let health = 200

test.before.each(async () => {
  folder = mkdtempSync(join(tmpdir(), 'elastic-local-install-'))
  health = 200
  server = createServer((_, outgoing) => outgoing.writeHead(health).end('{"status":"ok"}')).listen(
    join(folder, 'socket'),
  )
  await once(server, 'listening')
  mkdirSync(join(folder, 'plugins'))
  writeFileSync(join(folder, 'program'), Buffer.alloc(3_000_000, 'new'), { mode: 0o700 })
  const names = { pluginDir: 'plugins', socket: 'socket', executable: 'program' }
  const paths = Object.entries(names).map(([key, name]) => [key, join(folder, name)])
  request = { ...Object.fromEntries(paths), attach: false }
  driver = join(folder, 'plugins', 'volumes.k8s.elastic.co~elastic-local')
  target = join(driver, 'elastic-local')
})

test.after.each(() => {
  server.close()
  rmSync(folder, { recursive: true })
})

const content = (path: string) => readFileSync(path, 'utf8')
async function refuses(said: RegExp, wanted: Partial<InstallRequest> = {}): Promise<void> {
  const error = await install({ ...request, ...wanted }, log).catch((error: Error) => error)
  assert.instance(error, Error)
  assert.match((error as Error).message, said)
  assert.not.match((error as Error).message, '\n')
}

test('install() puts executable and settings where the kubelet looks, and nothing else', async () => {
  assert.equal(await install(request, log), { action: 'installed', path: target })
  assert.equal(readdirSync(driver).sort(), ['.elastic-local.json', 'elastic-local'])
  assert.is(content(target), content(request.executable as string))
  assert.is(statSync(target).mode & 0o777, 0o755)
  assert.equal(JSON.parse(content(join(driver, '.elastic-local.json'))), { socket: request.socket, attach: false })
})

test('install() changes nothing when the same is there', async () => {
  await install(request, log)
  const before = statSync(target)
  assert.is((await install(request, log)).action, 'unchanged')
  assert.is(statSync(target).ino, before.ino)
})

test('install() replaces other bytes of the same length, a wrong mode and other settings', async () => {
  const again = async (wanted: Partial<InstallRequest> = {}) => {
    const { ino } = statSync(target)
    assert.is((await install({ ...request, ...wanted }, log)).action, 'installed')
    // A new file, so that the kubelet probes the driver again.
    assert.is.not(statSync(target).ino, ino)
    assert.is(content(target), content(request.executable as string))
    assert.is(statSync(target).mode & 0o777, 0o755)
  }
  await install(request, log)
  const old = Buffer.from(readFileSync(target))
  old[2_999_999] = 0
  writeFileSync(target, old)
  await again()
  chmodSync(target, 0o644)
  await again()
  await again({ attach: true })
  await again({ attach: false })
  rmSync(join(driver, '.elastic-local.json'))
  await again()
})

test('install() finishes an installation that ended between settings and executable', async () => {
  await install(request, log)
  const later = new Date(Date.now() + 5000)
  utimesSync(join(driver, '.elastic-local.json'), later, later)
  assert.is((await install(request, log)).action, 'installed')
})

test('install() removes temporary files of an installation that was killed, and no others', async () => {
  mkdirSync(driver)
  for (const name of ['.elastic-local.0123abcd.tmp', '.elastic-local.json.tmp', '.other.tmp', 'elastic-local.tmp'])
    writeFileSync(join(driver, name), 'x')
  await install(request, log)
  assert.equal(readdirSync(driver).sort(), ['.elastic-local.json', '.other.tmp', 'elastic-local', 'elastic-local.tmp'])
  writeFileSync(join(driver, '.elastic-local.4567.tmp'), 'x')
  assert.is((await install(request, log)).action, 'unchanged')
  assert.not(existsSync(join(driver, '.elastic-local.4567.tmp')))
})

test('install() takes the place of a symbolic link, and leaves what it points to alone', async () => {
  const { symlinkSync } = await import('node:fs')
  mkdirSync(driver)
  writeFileSync(join(folder, 'precious'), 'data')
  symlinkSync(join(folder, 'precious'), target)
  await install(request, log)
  assert.is(content(join(folder, 'precious')), 'data')
  assert.is(content(target), content(request.executable as string))
})

test('install() at the same time from many sides leaves the whole file', async () => {
  const all = await Promise.allSettled(Array.from({ length: 5 }, () => install(request, log)))
  for (const result of all)
    if (result.status === 'rejected') assert.match(String(result.reason), /another installation ran|Run it again/)
  await install(request, log)
  assert.is(content(target), content(request.executable as string))
  assert.equal(readdirSync(driver).sort(), ['.elastic-local.json', 'elastic-local'])
})

test('install() installs nothing when the daemon does not answer', async () => {
  await refuses(/there is no socket .*Nothing was installed/, { socket: join(folder, 'none') })
  health = 503
  await refuses(/is unhealthy: it answers HTTP 503/)
  assert.equal(readdirSync(request.pluginDir), [])
})

test('install() refuses a plugin folder that is missing or a file, and makes none', async () => {
  await refuses(/Cannot install into .*none: there is no such folder.*--plugin-dir/, {
    pluginDir: join(folder, 'none'),
  })
  await refuses(/there is no such folder/, { pluginDir: join(folder, 'program', 'x') })
  await refuses(/it is a file.*--plugin-dir/, { pluginDir: join(folder, 'program') })
  assert.not(existsSync(join(folder, 'none')))
})

test('install() says what stands in its way', async () => {
  writeFileSync(driver, '')
  await refuses(/volumes.k8s.elastic.co~elastic-local there must be a folder: it is a file/)
  rmSync(driver)
  mkdirSync(join(driver, 'elastic-local', 'x'), { recursive: true })
  await refuses(/elastic-local there must be a file: it is a folder/)
  assert.equal(
    readdirSync(driver).filter((name) => name.endsWith('.tmp')),
    [],
  )
})

test('install() from sources says to build first', () => refuses(/make build/, { executable: undefined }))

test.run()
