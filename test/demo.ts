/**
 * The main job on this machine, played through: a standalone daemon with LOOP volumes in a scratch folder, and the
 * call-outs that a kubelet would make. Stays until Ctrl-C, or with --once cleans up at once.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'

const isOnce = process.argv.includes('--once')
const executable = join(import.meta.dirname, '../dist/elastic-local')
const volume = 'pvc-0b5d3c1e-7a52-4f8e-9c1d-2f6f0a1b2c3d'
const podUids = ['11111111-aaaa-4000-8000-000000000001', '22222222-bbbb-4000-8000-000000000002']
const sizeBytes = 512 * 2 ** 20

if (process.getuid?.() !== 0) {
  process.stderr.write('Cannot play kubelet as this must be root: it mounts filesystems. Try "sudo make run".\n')
  process.exit(1)
}

const scratch = await mkdtemp(join(tmpdir(), 'elastic-local-run-'))
const folders = {
  volumes: join(scratch, 'volumes'),
  kubelet: join(scratch, 'kubelet'),
  plugins: join(scratch, 'plugins'),
}
const socket = join(scratch, 'socket')
const driver = join(folders.plugins, 'volumes.k8s.elastic.co~elastic-local/elastic-local')
const target = (podUid = '') =>
  join(folders.kubelet, 'pods', podUid, 'volumes/volumes.k8s.elastic.co~elastic-local', volume)
const say = (text: string) => process.stdout.write(`${text}\n`)

/** Runs one command, shows it and its output, and gives the output. */
async function show(file: string, ...args: string[]): Promise<string> {
  const shown = [file.replace(`${scratch}/`, '').replace(executable, 'elastic-local'), ...args]
  say(`\n$ ${shown.map((word) => (/[{" ]/.test(word) ? `'${word}'` : word)).join(' ')}`)
  const { stdout } = await promisify(execFile)(file, args)
  process.stdout.write(stdout)
  return stdout
}

/** One call-out of the kubelet. Throws unless it succeeds. */
async function callOut(...args: string[]): Promise<void> {
  const answer: { status?: unknown } = JSON.parse(await show(driver, ...args))
  if (answer.status !== 'Success') throw new Error(`The driver answered ${JSON.stringify(answer)}.`)
}

/** The kernel lets nobody without CAP_SYS_RESOURCE grow a mounted ext4 (capabilities(7)). */
async function chooseFsType(): Promise<'ext4' | 'xfs'> {
  const status = await readFile('/proc/self/status', 'utf8')
  const capabilities = BigInt(`0x${/^CapEff:\s*(\S+)$/m.exec(status)?.[1]}`)
  if (capabilities & (1n << 24n)) return 'ext4'
  say('This machine does not give CAP_SYS_RESOURCE, without which a mounted ext4 cannot grow: using xfs.')
  return 'xfs'
}

async function startDaemon(): Promise<ChildProcess> {
  const args = ['daemon', '--standalone', '--driver-kind', 'LOOP', '--volumes-dir', folders.volumes]
  args.push('--kubelet-dir', folders.kubelet, '--socket', socket)
  say(`$ elastic-local ${args.join(' ')} &`)
  // In a process group of its own, so that Ctrl-C reaches this program, which then ends it in order.
  const daemon = spawn(executable, args, { stdio: ['ignore', 'inherit', 'pipe'], detached: true })
  const ended = once(daemon, 'exit').then(() => Promise.reject(new Error('The daemon ended.')))
  const serving = new Promise<void>((resolve) => {
    daemon.stderr?.setEncoding('utf8').on('data', (text: string) => {
      process.stderr.write(text)
      if (text.includes('Serving')) resolve()
    })
  })
  await Promise.race([serving, ended])
  ended.catch(() => {})
  return daemon
}

async function play(): Promise<void> {
  const fsType = await chooseFsType()
  await mkdir(folders.plugins)
  await show(executable, 'install', '--plugin-dir', folders.plugins, '--socket', socket)
  const options = (podUid: string) =>
    JSON.stringify({
      'kubernetes.io/fsType': fsType,
      'kubernetes.io/readwrite': 'rw',
      'kubernetes.io/pvOrVolumeName': volume,
      'kubernetes.io/pod.uid': podUid,
      sizeBytes: String(sizeBytes),
    })
  const [first = '', second = ''] = podUids

  say('\n# The kubelet finds the driver, and mounts a new volume for one pod and then for another.')
  await callOut('init')
  for (const podUid of podUids) {
    await mkdir(target(podUid), { recursive: true })
    await callOut('mount', target(podUid), options(podUid))
  }
  say('\n# The first pod writes, the second one reads.')
  await writeFile(join(target(first), 'greeting'), 'hello from the first pod\n', { flush: true })
  await show('cat', join(target(second), 'greeting'))
  await show(executable, 'volumes', '--socket', socket)

  say('\n# The claim grows to twice its size while both pods run.')
  await callOut('expandfs', options(first), '', target(first), String(sizeBytes * 2), String(sizeBytes))
  await show('df', '--human-readable', target(first))

  say('\n# Both pods go, and a new one comes: the data is still there.')
  for (const podUid of podUids) await callOut('unmount', target(podUid))
  await callOut('mount', target(first), options(first))
  const greeting = await show('cat', join(target(first), 'greeting'))
  if (greeting !== 'hello from the first pod\n') throw new Error('The data is not there any more.')
  await show(executable, 'volumes', '--socket', socket)
  await show(executable, 'pools', '--socket', socket)
}

/** Takes away what the play made, in the order a kubelet and an operator would; ends the daemon whatever happens. */
async function cleanUp(daemon: ChildProcess): Promise<void> {
  say('\n# Cleaning up: unmount, remove, stop.')
  try {
    for (const podUid of podUids) await callOut('unmount', target(podUid))
    await show(executable, 'volumes', 'remove', '--yes', '--socket', socket, volume)
  } finally {
    const ended = daemon.exitCode === null ? once(daemon, 'exit') : [daemon.exitCode]
    daemon.kill('SIGTERM')
    const [exitCode] = await ended
    say(`The daemon ended with ${exitCode}.`)
  }
  await rm(scratch, { recursive: true })
  say('Nothing is left.')
}

const interrupted = Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
const daemon = await startDaemon()
const played = await Promise.race([play(), interrupted]).catch((error: unknown) => ({ error }))
if (played && 'error' in played) process.stderr.write(`${played.error}\n`)
else if (!isOnce && !played) {
  const flags = `--volumes-dir ${folders.volumes} --kubelet-dir ${folders.kubelet} --plugin-dir ${folders.plugins}`
  say(`\n# The daemon goes on until Ctrl-C. In another terminal, try:\n`)
  say(`  ${executable} volumes show --socket ${socket} ${volume}`)
  say(`  ${executable} doctor --driver-kind LOOP --socket ${socket} ${flags}\n`)
  await interrupted
}
await cleanUp(daemon)
if (played && 'error' in played) process.exit(1)
