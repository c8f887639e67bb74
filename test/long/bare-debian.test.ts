/**
 * What the README promises, on a Debian bookworm that has no more than it names: its two commands, in a namespace. Of
 * `make test` this is what comes before its tests, and of these the unit tests: the others bring what they run on with
 * them (guests, images, a Kubernetes that Go builds), and are no other in here. Root only.
 */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { findSources } from '../../image/debian.ts'
import { type Output, run } from '../../src/run.ts'
import { atTermination } from '../cluster/termination.ts'
import { suite } from '../suite.ts'

const tree = join(import.meta.dirname, '../..')
const test = suite('bare Debian')
/** Where also a user who is not root may go. */
const home = '/srv/elastic-local'
let folder = ''
let root = ''

/** Runs a program that mounts: no mount of it stays, and no process of it outlives this one. */
function runAlone(...command: string[]): Promise<Output> {
  const namespaces = ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', '--mount-proc']
  const accept = Array.from({ length: 256 }, (_, exitCode) => exitCode)
  return run('setpriv', ['--pdeathsig', 'KILL', 'unshare', ...namespaces, '--', ...command], { accept })
}

/** Runs a line of the shell on that Debian, in the tree: on this kernel, with this network and npm's settings. */
async function inside(line: string): Promise<Output> {
  const script = `
    root=$1
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    for folder in /dev /sys; do mount --rbind "$folder" "$root$folder"; done
    show() { [ ! -e "$1" ] || { [ -e "$root$2" ] || touch "$root$2"; mount --bind "$1" "$root$2"; }; }
    show "$(realpath /etc/resolv.conf)" /etc/resolv.conf
    show /etc/ssl /etc/ssl
    show "$(npm config get userconfig)" /root/.npmrc
    show "$(npm config get globalconfig)" /etc/npmrc
    exec chroot "$root" env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
      sh -c "cd ${home} && $2" < /dev/null`
  return await runAlone('sh', '-e', '-c', script, 'sh', root, line)
}

test.before(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'elastic-local-bare-')))
  atTermination(() => rm(folder, { recursive: true, force: true }))
  root = join(folder, 'root')
  const sources = join(folder, 'sources.list')
  await writeFile(sources, await findSources('bookworm'))
  process.stderr.write('Making a bare Debian: two or three minutes ...\n')
  const options = ['--quiet', '--variant=apt', '--include=git,make,npm']
  const { exitCode, stderr } = await runAlone('mmdebstrap', ...options, 'bookworm', root, sources)
  assert.is(exitCode, 0, stderr)
  // The work tree as it is now, as if it were cloned.
  const copy =
    'git -C "$1" ls-files -z --cached --others --exclude-standard | tar -C "$1" -c --null -T - | tar -C "$2" -x'
  await mkdir(join(root, home))
  await run('sh', ['-e', '-c', copy, 'sh', tree, join(root, home)])
})

test.after(() => rm(folder, { recursive: true, force: true }))

/** What a failed command said of itself; make(1) adds that it failed. */
const words = ({ stderr }: Output) => stderr.replace(/^make: \*\*\* .*\n/m, '')

test('make test says in one line that there is no Go, before anything else', async () => {
  const output = await inside('make test')
  assert.match(words(output), /^Cannot start as this is missing: Go 1\.\d+\.\d+ or newer \(\S+; there is none\)\.\n$/)
  assert.is(output.stdout, '')
  assert.not(existsSync(join(root, home, 'node_modules')))
})

test('make run says that it must be root', async () => {
  const output = await inside('setpriv --reuid=65534 --regid=65534 --clear-groups make run ONCE=1')
  assert.is(words(output), 'Cannot start as this is missing: the rights of root (sudo).\n')
})

test('make run installs only what it needs, and plays', async () => {
  const { exitCode, stdout, stderr } = await inside('make run ONCE=1')
  assert.is(exitCode, 0, stderr)
  assert.is(stderr, '')
  const lines = stdout.split('\n')
  const start = lines.findIndex((line) => line.startsWith('elastic-local at work'))
  assert.match(
    lines.slice(0, start).join('\n'),
    /^Installing mount e2fsprogs( xfsprogs)? \.\.\.\nInstalling packages of npm: .*\nBuilding dist\/elastic-local \(.*\) \.\.\.\n$/,
  )
  assert.equal(
    lines.filter((line) => line.length > 100),
    [],
  )
  assert.match(stdout, /Nothing is left: no mount, no loop device, no file\.\n$/)
})

test('make run plays at once the next time', async () => {
  const { exitCode, stdout, stderr } = await inside('make run ONCE=1')
  assert.is(exitCode, 0, stderr)
  assert.match(stdout, /^\nelastic-local at work/)
})

test('an install that was cut short is done again', async () => {
  await rm(join(root, home, 'node_modules/.package-lock.json'))
  await rm(join(root, home, 'node_modules/esbuild'), { recursive: true })
  const { exitCode, stdout, stderr } = await inside('make build')
  assert.is(exitCode, 0, stderr)
  assert.match(stdout, /^Installing packages of npm/)
})

test('make check passes', async () => {
  const { exitCode, stdout, stderr } = await inside('make check')
  assert.is(exitCode, 0, `${stdout}${stderr}`)
  assert.match(stdout, /^\d+ passed, 0 failed$/m)
})

test("make test says that Debian's own Go is too old", async () => {
  const installed = await inside('apt-get install -y -q --no-install-recommends golang-go')
  assert.is(installed.exitCode, 0, installed.stderr)
  assert.match(words(await inside('make test')), /^Cannot start as this is missing: Go .*; it is 1\.19\.8\)\.\n$/)
})

test.run()
