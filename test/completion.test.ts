/** Completion of the built executable, by real shells that believe to be on a terminal. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { build } from '../build.mjs'
import { buildApp } from '../src/daemon/app.ts'
import { Drain } from '../src/daemon/drain.ts'
import { buildStandaloneFront } from '../src/daemon/front.ts'
import { close, listen } from '../src/daemon/server.ts'
import { buildCallOuts } from '../src/flex/call-outs.ts'
import { run } from '../src/run.ts'
import { Engine } from '../src/volume/engine.ts'
import { MemoryMachine } from '../src/volume/memory.ts'
import { runWithInput } from './cluster/program.ts'
import { suite } from './suite.ts'

const test = suite('completion')
let folder = ''
const socket = () => join(folder, 'socket')
const env = () => ({
  PATH: `${folder}:${process.env.PATH}`,
  HOME: folder,
  TERM: 'xterm',
  LC_ALL: 'C.UTF-8',
  ELASTIC_LOCAL_SOCKET: socket(),
})
let server: Server

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'elastic-local-completion-'))
  await copyFile(await build({ log: () => {} }), join(folder, 'elastic-local'))
  await mkdir(join(folder, 'fpath'))
  for (const shell of ['bash', 'zsh', 'fish']) await writeFile(join(folder, shell), await script(shell))
  await writeFile(join(folder, 'fpath/_elastic-local'), await script('zsh'))
  server = await serveVolumes()
})

test.after(async () => {
  await close(server)
  await rm(folder, { recursive: true })
})

/** The daemon's own answers, of an engine in memory. */
async function serveVolumes(): Promise<Server> {
  const log = { info: () => {}, warn: () => {} }
  const { pool, mounts, filesystems, journal } = new MemoryMachine({ capacityBytes: 100n << 30n })
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  await engine.create('web-data', { sizeBytes: 1n << 30n, fsType: 'ext4', mkfsOptions: [] })
  const front = buildStandaloneFront(engine)
  const callOuts = buildCallOuts('/kubelet')
  return await listen(buildApp({ engine, drain: new Drain(), callOuts, front, version: '1.2.3', log }), socket())
}

async function script(shell: string): Promise<string> {
  return (await run(join(folder, 'elastic-local'), ['completion', shell])).stdout
}

/** What a shell on a terminal shows when those lines are typed; a tab is a tab. */
async function type(shell: string, lines: readonly string[]): Promise<string> {
  // script(1) gives it a terminal.
  const child = spawn('script', ['-qec', shell, '/dev/null'], {
    env: env(),
    stdio: ['pipe', 'pipe', 'inherit'],
    timeout: 60_000,
  })
  let shown = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text
  })
  child.stdin.end([...lines, 'exit', ''].join('\n'))
  await once(child, 'close')
  return shown
}

/**
 * Typed as they are here, they print the version as JSON and as text, and a volume's size: what is completed to `jsonpath=`
 * goes on.
 */
const typed = [
  'elastic-local vers\t-o js\t',
  'elastic-local version --output=te\t',
  "elastic-local volumes show web\t-o jsonp\t'size: {.sizeBytes};'",
]

function showsAll(shown: string): void {
  assert.match(shown, /size: 1073741824;/)
  assert.match(shown, /\{"version":"[^"]+","commit":/)
  assert.match(shown, /[\r\n]elastic-local \d+\.\d+\.\d+, commit/)
}

for (const shell of ['bash', 'zsh', 'fish'])
  test(`${shell} takes its script without a complaint`, async () => {
    const { stdout, stderr } = await run(shell, ['-n', join(folder, shell)])
    assert.equal([stdout, stderr], ['', ''])
  })

test('bash completes commands, flags, values behind a blank and behind "=", and paths', async () => {
  const shown = await type('bash --norc --noprofile -i', [
    'source ~/bash',
    ...typed,
    'elastic-local daemon --volumes-dir /et\t --help',
  ])
  showsAll(shown)
  assert.match(shown, /--volumes-dir \/etc\//)
})

test('zsh completes the same, with the script read or in its fpath', async () => {
  for (const setup of [
    'autoload -U compinit; compinit -u -D; source ~/zsh',
    'fpath=(~/fpath $fpath); autoload -U compinit; compinit -u -D',
  ])
    showsAll(await type('zsh -f -i', [setup, ...typed]))
})

test('fish completes the same', async () => {
  const ask = async (line: string) => {
    const { stdout } = await runWithInput('fish', ['--no-config', '-c', `source ~/fish; complete -C '${line}'`], {
      env: env(),
    })
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((row) => row.split('\t')[0])
  }
  assert.equal(await ask('elastic-local vers'), ['version'])
  assert.equal(await ask('elastic-local version -o js'), ['json'])
  assert.equal(await ask('elastic-local version --output=te'), ['--output=text'])
  assert.equal(await ask('elastic-local daemon --volumes-dir /et'), ['/etc/'])
  assert.equal(await ask('elastic-local volumes show '), ['web-data'])
  assert.equal(await ask('elastic-local volumes -o jsonp'), ['jsonpath='])
})

test.run()
