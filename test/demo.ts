/**
 * The main job on this machine, played through: a standalone daemon with LOOP volumes in a scratch folder, and the
 * call-outs that a kubelet would make. Stays until Ctrl-C, or with --once cleans up at once.
 *
 * What is shown is what a shell runs. It has short names for long paths, which another shell can read from a file.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { readMountTable } from '../src/mount/table.ts'
import { run } from '../src/run.ts'
import { buildPaint } from '../src/text/paint.ts'
import { formatFields } from '../src/text/table.ts'

const isOnce = process.argv.includes('--once')
const columns = 100
const paint = buildPaint(process.stdout, process.env)
const say = (words: string) => process.stdout.write(`${words}\n`)
const title = (words: string) => say(`\n\n${paint('bold', words)}`)

if (process.getuid?.() !== 0) {
  process.stderr.write('Cannot play kubelet as this must be root: it mounts filesystems. Try "sudo make run".\n')
  process.exit(1)
}

/** The kernel lets nobody without CAP_SYS_RESOURCE grow a mounted ext4 (capabilities(7)). */
async function chooseFsType(): Promise<'ext4' | 'xfs'> {
  const status = await readFile('/proc/self/status', 'utf8')
  const capabilities = BigInt(`0x${/^CapEff:\s*(\S+)$/m.exec(status)?.[1]}`)
  return capabilities & (1n << 24n) ? 'ext4' : 'xfs'
}

const dir = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-')))
const names = join(dir, 'names')
const log = join(dir, 'daemon.log')
const volume = 'pvc-0b5d3c1e-7a52-4f8e-9c1d-2f6f0a1b2c3d'
const driver = 'volumes.k8s.elastic.co~elastic-local'
const target = (podUid: string) => join(dir, 'kubelet/pods', podUid, 'volumes', driver, volume)
const targets = {
  first: target('11111111-aaaa-4000-8000-000000000001'),
  second: target('22222222-bbbb-4000-8000-000000000002'),
  third: target('33333333-cccc-4000-8000-000000000003'),
}
const options = {
  'kubernetes.io/pvOrVolumeName': volume,
  'kubernetes.io/fsType': await chooseFsType(),
  'kubernetes.io/readwrite': 'rw',
  sizeBytes: String(512 * 2 ** 20),
}

/** The names, and what has our commands find this daemon. */
const definitions = `dir='${dir}'
log="$dir/daemon.log"
volume=${volume}
${Object.entries(targets)
  .map(([name, path]) => `${name}='${path}'`)
  .join('\n')}
options='${JSON.stringify(options)}'
driver() { "$dir/plugins/${driver}/elastic-local" "$@"; }
export PATH='${join(import.meta.dirname, '../dist')}':"$PATH"
export ELASTIC_LOCAL_DRIVER_KIND=LOOP ELASTIC_LOCAL_VOLUMES_DIR="$dir/volumes"
export ELASTIC_LOCAL_SOCKET="$dir/socket" ELASTIC_LOCAL_LOG_FORMAT=text
export ELASTIC_LOCAL_KUBELET_DIR="$dir/kubelet" ELASTIC_LOCAL_PLUGIN_DIR="$dir/plugins"
`

/** Shows a line of the shell and starts it, in a process group of its own, so that Ctrl-C lets it end. */
function start(line: string, output: StdioOptions = ['ignore', 'inherit', 'inherit']): ChildProcess {
  say(`\n${paint('green', '$')} ${paint('bold', line)}`)
  // In the background it is for us already.
  const shell = line.endsWith('&') ? `exec ${line.slice(0, -1)}` : line
  return spawn('sh', ['-c', `. '${names}'; ${shell}`], { stdio: output, detached: true })
}

/** Runs one line and shows what it prints. Throws unless it succeeds. */
async function show(line: string): Promise<void> {
  const [exitCode] = await once(start(line), 'exit')
  if (exitCode !== 0) throw new Error(`This ended with ${exitCode}: ${line}`)
}

/** One call-out of the kubelet. Throws unless it succeeds. */
async function callOut(...words: string[]): Promise<void> {
  const child = start(`driver ${words.join(' ')}`, ['ignore', 'pipe', 'inherit'])
  const answer = (await text(child.stdout as Readable)).trimEnd()
  say(wrap(answer))
  if (JSON.parse(answer).status !== 'Success') throw new Error('The driver did not succeed.')
}

/** JSON of one line, with line breaks where the screen ends. */
function wrap(json: string, width = columns): string {
  const lines = ['']
  for (const part of json.split(/(?<=,)/)) {
    const line = lines.at(-1) ?? ''
    if (line.length + part.length <= width) lines[lines.length - 1] = line + part
    else lines.push(`  ${part}`)
  }
  return lines.join('\n')
}

function introduce(): void {
  say(`
${paint('bold', 'elastic-local at work on this machine: one volume, from its first mount to its removal')}

A small program plays the kubelet. The daemon, the driver, the filesystem and its mounts are real;
the disk is an image file. Short names stand for what is long:
`)
  const shorten = (path: string) => path.replace(dir, '$dir').replace(driver, '…').replace(volume, '$volume')
  say(
    formatFields(
      [
        ['$dir', `${dir}, where all of it happens`],
        ['$log', `${log}, what the daemon tells`],
        ['$volume', volume],
        ...Object.entries(targets).map(([name, path]) => [`$${name}`, shorten(path)] as const),
        ['$options', wrap(JSON.stringify(options), columns - 15)],
        ['driver', `$dir/plugins/${driver}/elastic-local`],
      ],
      { paint },
    ).trimEnd(),
  )
}

/** One may end it between its commands. */
async function* play(): AsyncGenerator<void> {
  yield show('elastic-local install --wait 10s')

  title('2. The kubelet finds the driver, and mounts a new volume for one pod and then for another.')
  yield callOut('init')
  for (const path of Object.values(targets)) await mkdir(path, { recursive: true })
  yield callOut('mount', '$first', '"$options"')
  yield callOut('mount', '$second', '"$options"')
  yield show('elastic-local volumes')

  title('3. The first pod writes, the second one reads.')
  yield show('echo "hello from the first pod" > $first/greeting')
  yield show('cat $second/greeting')

  title('4. The claim grows from 512 MiB to 1 GiB while both pods run.')
  yield callOut('expandfs', '"$options"', '""', '$first', String(2 ** 30), String(2 ** 29))
  yield show('df --human-readable --output=source,fstype,size,used,avail $first')

  title('5. Both pods are deleted, and a new one starts: the data is still there.')
  yield callOut('unmount', '$first')
  yield callOut('unmount', '$second')
  yield callOut('mount', '$third', '"$options"')
  yield show('cat $third/greeting')
  yield show('elastic-local pools')
}

function invite(): void {
  title('It is all yours. The daemon runs until Ctrl-C; in another terminal, as root:')
  say(`
  . ${names}
  elastic-local volumes show $volume
  elastic-local volumes grow $volume 2Gi
  elastic-local doctor
  tail -f $log`)
}

/** Takes away what the play made, in the order a kubelet and an operator would; ends the daemon whatever happens. */
async function cleanUp(daemon: ChildProcess): Promise<void> {
  title('6. The last pod is deleted, the volume is removed, and the daemon stops.')
  try {
    const mounts = await readMountTable()
    for (const [name, path] of Object.entries(targets)) if (mounts.at(path)) await callOut('unmount', `$${name}`)
    await show('elastic-local volumes remove --yes $volume')
  } finally {
    const ended = daemon.exitCode === null && daemon.signalCode === null ? once(daemon, 'exit') : undefined
    daemon.kill('SIGTERM')
    await ended
  }
}

/** What of it the kernel still has. */
async function findLeftovers(): Promise<string[]> {
  const mounts = (await readMountTable()).under(dir).map(({ target }) => target)
  const { stdout } = await run('losetup', ['--list', '--noheadings', '--output', 'BACK-FILE'])
  return [...mounts, ...stdout.split('\n').filter((file) => file.startsWith(dir))]
}

const interruption = new AbortController()
const { signal: interrupted } = interruption
for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(name, () => interruption.abort(new Error('It was interrupted.')))
// Nobody reads on.
process.stdout.on('error', (error) => interruption.abort(error))

await writeFile(names, definitions)
introduce()
title('1. The daemon of the node starts, and its driver is installed where the kubelet looks for it.')
await Promise.all(['plugins', 'kubelet'].map((folder) => mkdir(join(dir, folder))))
const daemon = start('elastic-local daemon --standalone --driver-kind LOOP 2> $log &')
const died = once(daemon, 'exit').then(([exitCode]) => Promise.reject(new Error(`The daemon ended with ${exitCode}.`)))
died.catch(() => {})
const failures: unknown[] = []
const go = async () => {
  for await (const _ of play()) interrupted.throwIfAborted()
  if (isOnce) return
  invite()
  if (!interrupted.aborted) await Promise.race([once(interrupted, 'abort'), died])
}
await go().catch((error) => failures.push(error))
await cleanUp(daemon).catch((error) => failures.push(error))
const left = await findLeftovers()
if (left.length > 0) failures.push(`This is left: ${left.join(', ')}`)

if (failures.length === 0) {
  await rm(dir, { recursive: true })
  say(`\n${paint('green', '✔')} Nothing is left: no mount, no loop device, no file.`)
} else {
  const lines = (await readFile(log, 'utf8').catch(() => '')).trimEnd().split('\n').slice(-10)
  process.stderr.write(`\n${failures.map((failure) => `${failure}\n`).join('')}`)
  if (left.length === 0 && interrupted.aborted) await rm(dir, { recursive: true })
  else
    process.stderr.write(
      `The daemon said at its end (all of it: ${log}):\n${lines.map((line) => `  ${line}\n`).join('')}`,
    )
  process.exitCode = 1
}
