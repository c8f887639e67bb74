/** The built executable, as the kubelet and a person start it. Builds it when it is not up to date. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type RequestListener, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { build } from '../build.mjs'
import { suite } from './suite.ts'

const test = suite('executable')
const isRoot = process.getuid?.() === 0
const driverName = 'volumes.k8s.elastic.co~elastic-local'
const options = JSON.stringify({ 'kubernetes.io/pvOrVolumeName': 'pvc-1', sizeBytes: '1024' })
const folder = mkdtempSync(join(tmpdir(), 'elastic-local-executable-'))
const executable = join(folder, 'elastic-local')
const socketPath = join(folder, 'socket')
const pluginDir = join(folder, 'plugins')
const driver = join(pluginDir, driverName, 'elastic-local')
const servers = new Set<Server>()
const children = new Set<ChildProcess>()

test.before(async () => {
  // A copy, so that the next build does not change it under the test, and any user can run it.
  copyFileSync(await build({ log: () => {} }), executable)
  chmodSync(folder, 0o755)
})

test.before.each(() => {
  rmSync(pluginDir, { recursive: true, force: true })
  mkdirSync(pluginDir)
})

test.after.each(() => {
  for (const child of children) child.kill('SIGKILL')
  for (const server of servers) {
    server.closeAllConnections()
    server.close()
  }
  servers.clear()
})

test.after(() => rmSync(folder, { recursive: true }))

type Ran = { code: number | null; stdout: string; stderr: string }

function start(
  file: string,
  args: readonly string[],
  more: SpawnOptions = {},
): { child: ChildProcess; ended: Promise<Ran> } {
  const env = { PATH: process.env.PATH, ELASTIC_LOCAL_SOCKET: socketPath, ...more.env }
  const child = spawn(file, args, { ...more, env, stdio: ['ignore', 'pipe', 'pipe'] })
  children.add(child)
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) child[name]?.on('data', (chunk) => (output[name] += chunk))
  const ended = once(child, 'close').then(([code]) => {
    children.delete(child)
    return { code, ...output }
  })
  return { child, ended }
}

const run = (args: readonly string[], more: SpawnOptions & { file?: string } = {}) =>
  start(more.file ?? executable, args, more).ended

/** Asserts what the kubelet needs, and returns the answer. */
function oneLine({ code, stdout, stderr }: Ran): { status: string; message?: string; [field: string]: unknown } {
  assert.is(stderr, '')
  assert.match(stdout, /^[^\n]+\n$/)
  const answer = JSON.parse(stdout)
  assert.ok(['Success', 'Failure', 'Not supported'].includes(answer.status), stdout)
  assert.is(code, answer.status === 'Failure' ? 1 : 0)
  return answer
}

async function serve(listener: RequestListener, path = socketPath): Promise<void> {
  const server = createServer(listener).listen(path)
  servers.add(server)
  await once(server, 'listening')
}

const healthy: RequestListener = (_, outgoing) => outgoing.end('{"status":"ok"}')

function installByHand(settings?: string): void {
  mkdirSync(join(pluginDir, driverName))
  copyFileSync(executable, driver)
  if (settings !== undefined) writeFileSync(join(pluginDir, driverName, '.elastic-local.json'), settings)
}

test('verbs that need no daemon answer without one', async () => {
  const init = oneLine(await run(['init']))
  assert.equal(init, {
    status: 'Success',
    capabilities: { attach: false, supportsMetrics: true, fsGroup: true, selinuxRelabel: true, requiresFSResize: true },
  })
  assert.equal(oneLine(await run(['getvolumename', options])), { status: 'Success', volumeName: 'pvc-1' })
  assert.equal(oneLine(await run(['expandvolume', options, '/m', '2', '1'])), { status: 'Success' })
})

test('verbs that need the daemon ask it, and pass its answer on', async () => {
  const seen: unknown[] = []
  await serve(async (incoming, outgoing) => {
    let text = ''
    for await (const chunk of incoming) text += chunk
    seen.push([incoming.method, incoming.url, JSON.parse(text)])
    outgoing.write('\n')
    outgoing.end(JSON.stringify({ status: 'Success', message: 'two\nlines', other: 1 }))
  })
  assert.equal(oneLine(await run(['mount', '/t', options])), { status: 'Success', message: 'two\nlines' })
  oneLine(await run(['unmount', '/t']))
  oneLine(await run(['expandfs', options, '', '/t', '2', '1']))
  assert.equal(seen, [
    ['POST', '/mount', { targetDir: '/t', options: JSON.parse(options) }],
    ['POST', '/unmount', { targetDir: '/t' }],
    ['POST', '/expandfs', { device: '', targetDir: '/t', newSize: '2', oldSize: '1', options: JSON.parse(options) }],
  ])
})

test('a driver installed with attach answers the verbs of that mode', async () => {
  installByHand(JSON.stringify({ socket: socketPath, attach: true }))
  await serve((incoming, outgoing) => outgoing.end(JSON.stringify({ status: 'Success', device: incoming.url })))
  const ask = async (...args: string[]) => oneLine(await run(args, { file: driver, env: { ELASTIC_LOCAL_SOCKET: '' } }))
  assert.is(((await ask('init')).capabilities as { attach: boolean }).attach, true)
  assert.equal(await ask('attach', options, 'node'), { status: 'Success', device: 'elastic-local/pvc-1' })
  assert.equal(await ask('isattached', options, 'node'), { status: 'Success', attached: true })
  assert.equal(await ask('detach', 'pvc-1', 'node'), { status: 'Success' })
  assert.is((await ask('waitforattach', 'elastic-local/pvc-1', options)).device, '/waitforattach')
  assert.is((await ask('mountdevice', '/g', 'elastic-local/pvc-1', options)).device, '/mountdevice')
  assert.is((await ask('unmountdevice', '/g')).device, '/unmountdevice')
})

test('in a folder that ends in ~elastic-local it is the flex driver and nothing else', async () => {
  installByHand()
  for (const args of [[], ['version'], ['help'], ['install'], ['--help'], ['attach', options, 'n'], ['__proto__']])
    assert.is((await run(args, { file: driver })).stdout, '{"status":"Not supported"}\n')
  // As the kubelet starts it, by its whole path, when that is a link to the executable elsewhere.
  assert.is((await run(['version'], { argv0: driver })).stdout, '{"status":"Not supported"}\n')
})

test('a settings file that cannot be used is a failure that names it', async () => {
  installByHand('{"socket":')
  for (const args of [['init'], ['mount', '/t', options]]) {
    const { status, message } = oneLine(await run(args, { file: driver }))
    assert.is(status, 'Failure')
    assert.match(message ?? '', join(pluginDir, driverName, '.elastic-local.json'))
  }
})

test('a missing or a dead daemon is a failure that says so', async () => {
  assert.match(oneLine(await run(['mount', '/t', options])).message ?? '', /there is no socket/)
  await serve((_, outgoing) => {
    outgoing.write('\n')
    setTimeout(() => outgoing.destroy(), 20)
  })
  assert.match(oneLine(await run(['mount', '/t', options])).message ?? '', /stopped before its answer/)
})

test('a hung daemon is a failure after 10 s of silence, not of work', async () => {
  await serve((incoming, outgoing) => {
    // The first goes on for longer than the limit; the second is silent.
    if (incoming.url === '/unmount') return
    const alive = setInterval(() => outgoing.write('\n'), 2000)
    setTimeout(() => {
      clearInterval(alive)
      outgoing.end('{"status":"Success"}')
    }, 12_000)
  })
  const start = Date.now()
  const [slow, hung] = await Promise.all([run(['mount', '/t', options]), run(['unmount', '/t'])])
  assert.ok(Date.now() - start < 15_000)
  assert.is(oneLine(slow).status, 'Success')
  assert.match(oneLine(hung).message ?? '', /sent nothing for 10 s/)
})

for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const)
  test(`${signal} during a call is a failure that says so`, async () => {
    const { promise: asked, resolve } = Promise.withResolvers<void>()
    await serve(() => resolve())
    const { child, ended } = start(executable, ['mount', '/t', options])
    await asked
    child.kill(signal)
    assert.match(oneLine(await ended).message ?? '', new RegExp(`interrupted by ${signal}`))
  })

const many = 'x'.repeat(100_000)
for (const args of [
  ['mount'],
  ['mount', '/t'],
  ['mount', '/t', ''],
  ['mount', '/t', '{'],
  ['mount', '/t', 'null'],
  ['mount', '/t', '{"a":1}'],
  ['mount', '', '{}'],
  ['mount', '/t', '{}', 'x'],
  ['mount', '/t\n{"status":"Success"}', '{}'],
  ['mount', '/t', JSON.stringify({ a: many })],
  ['mount', many, '{}'],
  ['mount', '--help'],
  ['mount', '--', '-x'],
  ['unmount'],
  ['unmount', '--node-options=--bogus'],
  ['getvolumename', '{}'],
  ['expandfs', options, '', '/t', 'x'],
  ['init', '--inspect', '--version'],
  ['init', '-h'],
])
  test(`exactly one line for ${JSON.stringify(args).slice(0, 60)}`, async () => {
    const { status } = oneLine(await run(args))
    assert.is(status, args[0] === 'init' ? 'Success' : 'Failure')
  })

const environments: NodeJS.ProcessEnv[] = [
  { NODE_OPTIONS: '--bogus' },
  { NODE_OPTIONS: '--trace-warnings --inspect --require /nonexistent' },
  { NODE_DEBUG: 'net,http,fs,timer,stream', NODE_DEBUG_NATIVE: 'none' },
  { NODE_PENDING_DEPRECATION: '1', NODE_EXTRA_CA_CERTS: '/nonexistent', NODE_REDIRECT_WARNINGS: '/nonexistent/x' },
  { NODE_V8_COVERAGE: '/dev/null/x', NODE_USE_ENV_PROXY: '1', HTTP_PROXY: 'http://localhost:1' },
  { ELASTIC_LOCAL_SOCKET: 'relative' },
  { ELASTIC_LOCAL_SOCKET: `/${'x'.repeat(5000)}` },
  { ELASTIC_LOCAL_SOCKET: '/dev/null' },
  { ELASTIC_LOCAL_SOCKET: '/' },
  { ELASTIC_LOCAL_LOG_LEVEL: 'nonsense', ELASTIC_LOCAL_ATTACH: 'nonsense' },
  { LANG: 'xx_XX', LC_ALL: 'xx', TZ: 'nonsense' },
]
for (const env of environments)
  test(`exactly one line with ${JSON.stringify(env).slice(0, 80)} in the environment`, async () => {
    assert.is(oneLine(await run(['init'], { env })).status, 'Success')
    assert.is(oneLine(await run(['mount', '/t', options], { env })).status, 'Failure')
  })

test('exactly one line from any arguments', async () => {
  const word = fc.string({ unit: 'binary', maxLength: 30 }).map((text) => text.replaceAll('\0', ''))
  const verb = fc.constantFrom(
    'init',
    'mount',
    'unmount',
    'mountdevice',
    'expandfs',
    'attach',
    'getvolumename',
    'waitforattach',
  )
  const line = fc.tuple(verb, fc.array(fc.oneof(word, fc.json(), fc.constant(options)), { maxLength: 5 }))
  await fc.assert(
    fc.asyncProperty(line, async ([verb, rest]) => void oneLine(await run([verb, ...rest]))),
    { numRuns: 40 },
  )
})

test('a reader that has gone, a full disk and closed outputs end it, and nothing else', async () => {
  const shell = (script: string) => run(['-c', script, executable], { file: '/bin/sh' })
  assert.equal(await shell('"$0" init >/dev/full'), { code: 1, stdout: '', stderr: '' })
  assert.equal(await shell('"$0" init >&- 2>&-'), { code: 0, stdout: '', stderr: '' })
  assert.equal(await shell('{ sleep 0.3; "$0" init; } | true'), { code: 0, stdout: '', stderr: '' })
  assert.is((await shell('"$0" init 2>&1 <&-')).stdout.split('\n').length, 2)
})

test('version prints version, commit, Node and architecture', async () => {
  const { code, stdout, stderr } = await run(['version'])
  assert.equal([code, stderr], [0, ''])
  assert.match(
    stdout,
    /^elastic-local \d+\.\d+\.\d+, commit ([0-9a-f]{7,}(-dirty)?|unknown), Node 24\.\d+\.\d+, (x64|arm64)\n$/,
  )
  const json = JSON.parse((await run(['version', '-o', 'json'])).stdout)
  assert.equal(Object.keys(json), ['version', 'commit', 'node', 'arch'])
})

test('help, no arguments and an unknown command', async () => {
  for (const args of [[], ['help'], ['install', '--help']]) {
    const { code, stdout, stderr } = await run(args)
    assert.equal([code, stderr], [0, ''])
    assert.match(stdout, /Usage: elastic-local/)
  }
  const { code, stdout, stderr } = await run(['versoin'])
  assert.equal([code, stdout], [2, ''])
  assert.is(stderr, 'elastic-local: There is no command versoin. Did you mean version?\n')
})

/** A command line on a terminal of 72 columns, script(1)'s, into which `type` writes. */
function onTerminal(line: string): { shown: () => string; type: (text: string) => void; ended: Promise<unknown> } {
  const child = spawn('script', ['-qec', `stty cols 72; exec ${executable} ${line}`, '/dev/null'], {
    env: { PATH: process.env.PATH, ELASTIC_LOCAL_SOCKET: socketPath, NO_COLOR: '1' },
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  children.add(child)
  let shown = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text
  })
  return { shown: () => shown, type: (text) => void child.stdin.write(text), ended: once(child, 'close') }
}

test('on a terminal, help and tables fit its width, and --watch goes on until Ctrl-C', async () => {
  const help = onTerminal('help daemon')
  await help.ended
  const lines = help.shown().split('\r\n')
  assert.ok(lines.length > 50 && lines.every((line) => line.length <= 72), help.shown())

  const name = 'pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11'
  let asked = 0
  await serve(({ url }, outgoing) => {
    if (url === '/v1/volumes') asked += 1
    const sizeBytes = asked > 1 ? '2147483648' : '1073741824'
    const volume = { name, driverKind: 'LVM', sizeBytes, state: 'ready', path: '/dev/vg/a', mounts: [], problems: [] }
    outgoing.end(JSON.stringify(url === '/v1/volumes' ? { volumes: [volume] } : { pools: [] }))
  })
  const list = onTerminal('volumes -w')
  while (!list.shown().includes('2 GiB')) await sleep(50)
  list.type('\x03')
  await list.ended
  const [title, first, second] = list.shown().split('\r\n')
  assert.match(title ?? '', /^NAME +SIZE +USED +USE% +FS +STATE +PODS +AGE$/)
  assert.match(first ?? '', /^pvc-0b7c1[0-9a-f-]*…[0-9a-f-]*5a7e11 +1 GiB +/)
  assert.match(second ?? '', /^pvc-0b7c1[0-9a-f-]*…[0-9a-f-]*5a7e11 +2 GiB +/)
  assert.ok((first ?? '').length <= 72, first)
})

test('help into a reader that stops reading is no error', async () => {
  const { stderr } = await run(['-c', '"$0" help | head -1', executable], { file: '/bin/sh' })
  assert.is(stderr, '')
})

test('as kubectl-elastic_local it is the plugin of kubectl, and never the flex driver', async () => {
  for (const argv0 of ['kubectl-elastic_local', '/usr/local/bin/kubectl-elastic_local'])
    for (const [args, wanted, said] of [
      [['volumes', '--kubeconfig', '/nowhere'], 1, /Cannot read \/nowhere/],
      [['mount'], 2, /There is no command mount\. See kubectl elastic_local help\./],
    ] as const) {
      const { code, stdout, stderr } = await run(args, { argv0 })
      assert.equal([code, stdout], [wanted, ''])
      assert.match(stderr, said)
      assert.match(stderr, /^kubectl elastic_local: [^\n]*\n$/)
    }
})

const install = (...args: string[]) => run(['install', '--plugin-dir', pluginDir, ...args])
const refused = async (ran: Promise<Ran>, said: RegExp) => {
  const { code, stdout, stderr } = await ran
  assert.equal([code, stdout], [1, ''])
  assert.match(stderr, /^elastic-local: (Cannot|The elastic-local daemon) [^\n]*\n$/)
  assert.match(stderr, said)
}

test('install installs a driver that works, and the second time says that there is nothing to do', async () => {
  await serve(healthy)
  const first = await install()
  assert.equal(first, { code: 0, stdout: `Installed ${driver}.\n`, stderr: '' })
  assert.is(oneLine(await run(['init'], { file: driver })).status, 'Success')
  const { ino } = statSync(driver)
  assert.match((await install()).stdout, /nothing to do/)
  assert.is(statSync(driver).ino, ino)
  assert.equal(readdirSync(join(pluginDir, driverName)).sort(), ['.elastic-local.json', 'elastic-local'])
})

test('install replaces a copy that is running, which goes on', async () => {
  const { promise: asked, resolve } = Promise.withResolvers<void>()
  let finish = () => {}
  await serve((incoming, outgoing) => {
    if (incoming.url === '/healthz') return void outgoing.end('{"status":"ok"}')
    finish = () => outgoing.end('{"status":"Success"}')
    resolve()
  })
  await install()
  const { ended } = start(driver, ['mount', '/t', options])
  await asked
  assert.equal(await install('--attach'), { code: 0, stdout: `Installed ${driver}.\n`, stderr: '' })
  assert.is((oneLine(await run(['init'], { file: driver })).capabilities as { attach: boolean }).attach, true)
  finish()
  assert.is(oneLine(await ended).status, 'Success')
})

test('an installation that is killed leaves the driver that was there, and the next one clears up', async () => {
  await serve(healthy)
  await install()
  const { ino } = statSync(driver)
  const { child, ended } = start(executable, ['install', '--plugin-dir', pluginDir, '--attach'])
  const names = () => readdirSync(join(pluginDir, driverName))
  while (child.exitCode === null && !names().some((name) => /^\.elastic-local\..{12}\.tmp$/.test(name))) await sleep(1)
  child.kill('SIGKILL')
  await ended
  assert.ok(statSync(driver).ino === ino || oneLine(await run(['init'], { file: driver })).status === 'Success')
  await install('--attach')
  assert.equal(names().sort(), ['.elastic-local.json', 'elastic-local'])
  assert.is((oneLine(await run(['init'], { file: driver })).capabilities as { attach: boolean }).attach, true)
})

test('install installs nothing without a daemon', async () => {
  await refused(install(), /there is no socket .*Nothing was installed/)
  await serve((_, outgoing) => outgoing.writeHead(500).end('{}'))
  await refused(install(), /is unhealthy: it answers HTTP 500/)
  assert.equal(readdirSync(pluginDir), [])
})

test('install says what is wrong with the plugin folder', async () => {
  await serve(healthy)
  await refused(run(['install', '--plugin-dir', join(folder, 'none')]), /there is no such folder/)
  await refused(run(['install', '--plugin-dir', executable]), /it is a file/)
})

/** Runs the script as root with mounts of its own, which end with it. */
const withMounts = (script: string) =>
  run(['--mount', '--propagation', 'private', '/bin/sh', '-ec', script, executable, pluginDir], { file: 'unshare' })

if (isRoot) {
  test('install says that the user may not write', async () => {
    await serve(healthy)
    chmodSync(socketPath, 0o777)
    await refused(
      run(['install', '--plugin-dir', pluginDir], { uid: 65534, gid: 65534 }),
      /may not write there\. Run it as root/,
    )
    chmodSync(socketPath, 0o700)
    await refused(run(['install', '--plugin-dir', pluginDir], { uid: 65534, gid: 65534 }), /may not use the socket/)
  })

  test('install says that the disk is full, and leaves what was there', async () => {
    await serve(healthy)
    const script = `mount -t tmpfs -o size=8m none "$1"; mkdir "$1/${driverName}"; echo old > "$1/${driverName}/elastic-local"
      "$0" install --plugin-dir "$1" || code=$?; cat "$1/${driverName}/elastic-local" >&2; ls -A "$1/${driverName}" >&2; exit $code`
    const { code, stderr } = await withMounts(script)
    assert.is(code, 1)
    const [message, ...rest] = stderr.trim().split('\n')
    assert.match(message ?? '', /the disk is full\. It needs 1\d\d MB/)
    assert.equal(rest, ['old', '.elastic-local.json', 'elastic-local'])
  })

  test('install says that the filesystem is read-only', async () => {
    await serve(healthy)
    await refused(withMounts('mount -t tmpfs -o ro none "$1"; exec "$0" install --plugin-dir "$1"'), /is read-only/)
  })
}

test.run()
