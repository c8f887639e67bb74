import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { buildApp } from '../daemon/app.ts'
import { Drain } from '../daemon/drain.ts'
import { buildStandaloneFront } from '../daemon/front.ts'
import { lockFiles, volumesLockPath } from '../daemon/lock.ts'
import { close, listen } from '../daemon/server.ts'
import { buildCallOuts } from '../flex/call-outs.ts'
import { Engine } from '../volume/engine.ts'
import { MemoryMachine } from '../volume/memory.ts'
import { runCli } from './cli.ts'
import type { Command } from './command.ts'
import { doctorCommand } from './doctor.ts'
import { openMachine } from './machine.ts'
import { poolsCommand } from './pools.ts'
import { elasticLocal } from './programs.ts'
import { volumesGrowCommand, volumesListCommand, volumesRemoveCommand, volumesShowCommand } from './volumes.ts'

const commands: readonly Command[] = [
  volumesListCommand,
  volumesShowCommand,
  volumesGrowCommand,
  volumesRemoveCommand,
  poolsCommand,
  doctorCommand,
]
// The tests may be run on a terminal.
process.env.NO_COLOR = '1'
const log = { info: () => {}, warn: () => {} }
const gibibyte = 1n << 30n

/** A command line, run; with nothing of this process's environment. */
async function cli(...args: string[]) {
  const stdout = new PassThrough()
  const stderr = new PassThrough()
  const exitCode = await runCli(args, {
    program: { ...elasticLocal, commands },
    env: {},
    stdout: stdout as never,
    stderr: stderr as never,
  })
  return { exitCode, out: String(stdout.read() ?? ''), err: String(stderr.read() ?? '') }
}

const online = suite('commands that ask the daemon')

online('list, show, grow and remove volumes, and show pools', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-cmd-'))
  const socket = join(folder, 'socket')
  const { pool, mounts, filesystems, journal } = new MemoryMachine({ capacityBytes: 100n * gibibyte })
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  await engine.create('web', { sizeBytes: gibibyte, fsType: 'ext4', mkfsOptions: [] })
  const app = buildApp({
    engine,
    drain: new Drain(),
    callOuts: buildCallOuts('/kubelet'),
    front: buildStandaloneFront(engine),
    version: '1',
    log,
  })
  const server = await listen(app, socket)
  assert.match((await cli('volumes', '--socket', socket)).out, /^NAME .*\nweb +1 GiB /)
  assert.match((await cli('volumes', 'show', 'web', `--socket=${socket}`)).out, /^Name: +web\n/)
  assert.match((await cli('volumes', 'grow', 'web', '2Gi', '--socket', socket)).out, 'from 1 GiB to 2 GiB.\n')
  assert.match((await cli('pools', '--socket', socket)).out, /\nmemory +LVM +100 GiB +2 GiB +98 GiB /)
  // What cannot be printed is not done either.
  const wrong = await cli('volumes', 'remove', '--yes', 'web', '--socket', socket, '-o', 'jsonpath={.results')
  assert.is(wrong.exitCode, 2)
  assert.match(wrong.err, /Cannot use the JSONPath \{\.results: each \{ must have its \}/)
  assert.ok(await engine.find('web'))
  const removed = await cli('volumes', 'remove', '--yes', 'web', '--socket', socket, '-o', 'json')
  assert.equal(JSON.parse(removed.out), { results: [{ name: 'web', action: 'removed' }] })
  assert.is(removed.exitCode, 0)
  const missing = await cli('volumes', 'show', 'web', '--socket', socket)
  assert.equal([missing.exitCode, missing.out], [1, ''])
  assert.match(missing.err, 'Cannot find volume web')
  await close(server)
  await rm(folder, { recursive: true })
})

online('say without a daemon what to do, and exit with 1', async () => {
  for (const words of [
    ['volumes'],
    ['volumes', 'show', 'a'],
    ['volumes', 'grow', 'a', '1Gi'],
    ['volumes', 'remove', '--yes', 'a'],
    ['pools'],
  ]) {
    const { exitCode, out, err } = await cli(...words, '--socket', '/nonexistent/socket')
    assert.equal([exitCode, out], [1, ''])
    assert.match(err, /is not running: there is no socket .*Start it: .*"elastic-local doctor".*--offline/s)
  }
})

online('exit with 2 when the line is wrong', async () => {
  const lines = [
    ['volumes', 'grow', 'web', '1e3'],
    ['volumes', 'grow', '../web', '1Gi'],
    ['volumes', 'grow', 'web'],
    ['volumes', 'show'],
    ['volumes', 'show', 'UPPER'],
    ['volumes', 'remove'],
    ['volumes', 'remove', '--yes', 'a/b'],
    ['volumes', '-o', 'xml'],
    ['doctor', '-o', 'wide'],
    ['pools', '--yes'],
  ]
  for (const line of lines) {
    const { exitCode, out, err } = await cli(...line, '--socket', '/nonexistent/socket')
    assert.equal([exitCode, out], [2, ''], `${line.join(' ')}: ${err}`)
    assert.match(err, /^elastic-local: /)
  }
})

online.run()

const offline = suite('commands that look directly')
/** Only root may look. */
const asRoot = process.getuid?.() === 0 ? offline : offline.skip

/** Directories as volumes, in a scratch folder, without a daemon. */
async function openFolder() {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-cmd-'))
  const volumesDir = join(folder, 'volumes')
  await mkdir(volumesDir)
  const engine = await openMachine(
    {
      driverKind: 'BINDMOUNT',
      volumesDir,
      lvmVolumeGroup: '',
      lvmUseThinVolumes: false,
      lvmThinPool: '',
      lvmThinOvercommitRatio: 1,
      lvmThinDataWatermark: 90,
      lvmThinMetadataWatermark: 80,
      loopPreallocate: false,
      hostTools: false,
    },
    log,
  )
  await engine.start()
  await engine.create('web', { sizeBytes: 1n << 20n, fsType: 'ext4', mkfsOptions: [] })
  const flags = ['--offline', '--driver-kind', 'BINDMOUNT', '--volumes-dir', volumesDir]
  return { engine, volumesDir, flags, close: () => rm(folder, { recursive: true }) }
}

asRoot('list, show, grow and remove volumes, and show pools', async () => {
  const { engine, flags, close } = await openFolder()
  assert.match((await cli('volumes', ...flags)).out, /\nweb +1 MiB +- +- +- +ready /)
  assert.match((await cli('volumes', 'show', 'web', ...flags)).out, /\nUnderlying disk: /)
  assert.match((await cli('pools', ...flags)).out, 'sizes are counted, not enforced')
  assert.match((await cli('volumes', 'grow', 'web', '2Mi', ...flags)).out, 'from 1 MiB to 2 MiB.\n')
  assert.match((await cli('volumes', 'remove', '--yes', 'web', ...flags)).out, 'Removed web (2 MiB).\n')
  assert.equal(await engine.list(), [])
  await close()
})

asRoot('change nothing while a daemon works on the volumes, but look', async () => {
  const { engine, flags, volumesDir, close } = await openFolder()
  const lock = await lockFiles([volumesLockPath(volumesDir)])
  for (const words of [
    ['volumes', 'grow', 'web', '2Mi'],
    ['volumes', 'remove', '--yes', 'web'],
  ]) {
    const { exitCode, err } = await cli(...words, ...flags)
    assert.is(exitCode, 1)
    assert.match(err, 'leave out --offline to ask the daemon')
  }
  assert.is((await cli('volumes', ...flags)).exitCode, 0)
  await lock.release()
  assert.is((await engine.find('web'))?.sizeBytes, 1n << 20n)
  await close()
})

asRoot('do not make a folder only to look into it', async () => {
  const { exitCode, err } = await cli('volumes', '--offline', '--driver-kind', 'LOOP', '--volumes-dir', '/nonexistent')
  assert.is(exitCode, 1)
  assert.match(err, "name the daemon's folder with --volumes-dir")
})

asRoot('leave the lock when they fail', async () => {
  const { flags, volumesDir, close } = await openFolder()
  assert.is((await cli('volumes', 'grow', 'nothing', '2Mi', ...flags)).exitCode, 1)
  await (await lockFiles([volumesLockPath(volumesDir)])).release()
  await close()
})

offline.run()

const doctor = suite('doctor as a command')

doctor('gives its findings as JSON, and exits with 1 when something fails', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-cmd-'))
  const places = ['volumes-dir', 'kubelet-dir', 'plugin-dir', 'socket'].map((name) => `--${name}=${join(folder, name)}`)
  const { exitCode, out } = await cli('doctor', '--driver-kind', 'BINDMOUNT', '-o', 'json', ...places)
  assert.is(exitCode, 1)
  const findings: { check: string; status: string }[] = JSON.parse(out).findings
  assert.is(findings.find((finding) => finding.check === 'daemon')?.status, 'fail')
  assert.is(findings.find((finding) => finding.check === 'volumes folder')?.status, 'warn')
  const { out: table } = await cli('doctor', '--driver-kind', 'BINDMOUNT', ...places)
  assert.match(table, / failures?(, \d+ warnings?)?\.\n$/)
  // It looked, and made nothing.
  assert.equal(await readdir(folder), [])
  await rm(folder, { recursive: true })
})

doctor.run()
