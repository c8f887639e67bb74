import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type RequestListener } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { parse } from 'yaml'
import { suite } from '../../test/suite.ts'
import { buildApp } from '../daemon/app.ts'
import { ClientError } from '../daemon/client.ts'
import { Drain } from '../daemon/drain.ts'
import { buildStandaloneFront } from '../daemon/front.ts'
import { close, listen } from '../daemon/server.ts'
import { buildCallOuts } from '../flex/call-outs.ts'
import { type Listing, type ListWishes, printListing } from '../text/listing.ts'
import { plain } from '../text/paint.ts'
import type { Screen } from '../text/screen.ts'
import { Engine } from '../volume/engine.ts'
import { VolumeError } from '../volume/errors.ts'
import { MemoryMachine } from '../volume/memory.ts'
import type { FsType, PoolReport } from '../volume/pool.ts'
import type { VolumeView } from '../volume/view.ts'
import { growVolume, listPools, listVolumes, removeVolumes, showVolume, type Visit } from './actions.ts'
import { adviseOnVolume } from './advice.ts'
import { buildDaemonKeeper, buildEngineKeeper, type Keeper } from './keeper.ts'
import { formatPools } from './pools.ts'
import { formatVolume, formatVolumes, podsOf } from './volumes.ts'

const gibibyte = 1n << 30n
const log = { info: () => {}, warn: () => {} }
const now = new Date('2026-03-05T10:00:00Z')

/** An engine on a machine in memory. */
async function openEngine() {
  const machine = new MemoryMachine({ capacityBytes: 100n * gibibyte })
  const { pool, mounts, filesystems, journal } = machine
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  await engine.start()
  const make = async (name: string, sizeBytes = 10n * gibibyte, fsType: FsType = 'ext4') =>
    await engine.create(name, { sizeBytes, fsType, mkfsOptions: [] })
  const mount = async (name: string, pod: string, readOnly = false) => {
    const target = `/kubelet/pods/${pod}/volumes/volumes.k8s.elastic.co~elastic-local/${name}`
    await engine.mount({ name, target, readOnly, mountOptions: [] })
    return target
  }
  return { machine, engine, make, mount }
}

/** The same, asked through a real daemon's socket. */
async function openDaemon() {
  const world = await openEngine()
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-inspect-'))
  const socketPath = join(folder, 'socket')
  const drain = new Drain()
  const app = buildApp({
    engine: world.engine,
    drain,
    callOuts: buildCallOuts('/kubelet'),
    front: buildStandaloneFront(world.engine),
    version: '1.2.3',
    log,
  })
  const server = await listen(app, socketPath)
  return {
    ...world,
    drain,
    socketPath,
    keeper: buildDaemonKeeper(socketPath),
    stop: async () => {
      await close(server)
      await rm(folder, { recursive: true })
    },
  }
}

/** A visit whose screen keeps what is shown; `answer` is what the person says, if there is one. */
function visit(keeper: Keeper, output: Visit['output'] = 'table', answer?: boolean) {
  const shown = { out: '', err: '', questions: [] as string[] }
  const screen: Screen = {
    print: (text) => {
      shown.out += text
    },
    tell: (text) => {
      shown.err += `${text}\n`
    },
    paint: plain,
    terminal: false,
    progress: (_, work) => work(),
    confirm: async (question) => {
      shown.questions.push(question)
      return answer
    },
  }
  const made: Visit = { keeper, screen, output, now: () => now }
  return { shown, visit: made }
}

async function print<T extends object>(
  { screen }: Visit,
  listing: Promise<Listing<T>>,
  output: ListWishes['output'] = 'table',
): Promise<void> {
  printListing(screen, await listing, { output, noHeaders: false })
}

async function rejection(promise: Promise<unknown>): Promise<Error> {
  return await promise.then(
    () => {
      throw new Error('did not fail')
    },
    (error) => error,
  )
}

const keeping = suite('keeper of volumes')

keeping('a daemon gives the same answers as an engine', async () => {
  const { engine, make, mount, keeper, stop } = await openDaemon()
  await make('web')
  await make('db', 300n << 20n, 'xfs')
  await mount('web', 'pod-1')
  const direct = buildEngineKeeper(engine)
  assert.equal(await keeper.list(), await direct.list())
  assert.equal(await keeper.find('web'), await direct.find('web'))
  assert.equal(await keeper.find('nothing'), undefined)
  assert.equal(await keeper.pools(), await direct.pools())
  assert.equal((await keeper.grow('db', gibibyte)).action, 'grown')
  assert.equal(await direct.grow('db', gibibyte), await keeper.grow('db', gibibyte))
  assert.equal(await keeper.remove('db'), { action: 'removed' })
  assert.equal(await keeper.remove('db'), { action: 'unchanged' })
  await stop()
})

keeping('a daemon gives its refusals with their code', async () => {
  const { make, mount, drain, keeper, stop } = await openDaemon()
  await make('web')
  await mount('web', 'pod-1')
  const codes: [Promise<unknown>, string, RegExp][] = [
    [keeper.find('No/Name'), 'invalid', /as a volume name/],
    [keeper.grow('nothing', gibibyte), 'not-found', /Cannot find volume nothing/],
    [keeper.grow('web', 1000n * gibibyte), 'no-space', /has 90 GiB free/],
    [keeper.remove('web'), 'busy', /is mounted on/],
  ]
  for (const [asked, code, message] of codes) {
    const error = await rejection(asked)
    assert.instance(error, VolumeError)
    assert.is((error as VolumeError).code, code)
    assert.match(error.message, message)
  }
  await drain.stop()
  assert.is(((await rejection(keeper.list())) as VolumeError).code, 'stopping')
  await stop()
})

keeping('a daemon that takes long is waited for, and its late refusal is one', async () => {
  const { machine, make, keeper, stop } = await openDaemon()
  await make('web')
  machine.onStep = async () => {
    await new Promise((resolve) => setTimeout(resolve, 700))
    throw new VolumeError('no-space', 'no room after all')
  }
  const error = await rejection(keeper.grow('web', 20n * gibibyte))
  assert.is((error as VolumeError).code, 'no-space')
  await stop()
})

keeping('a daemon that is not there is a ClientError', async () => {
  const error = await rejection(buildDaemonKeeper('/nonexistent/socket').list())
  assert.instance(error, ClientError)
  assert.is((error as ClientError).code, 'missing')
})

keeping('answers of another program are refused with what is wrong in them', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-inspect-'))
  const socketPath = join(folder, 'socket')
  let answer: unknown
  const server = createServer(((_, response) => response.end(JSON.stringify(answer))) satisfies RequestListener)
  await new Promise<void>((resolve) => server.listen(socketPath, resolve))
  const volume = { name: 'web', driverKind: 'LVM', state: 'ready', path: '/x', mounts: [], problems: [] }
  const cases: [unknown, RegExp][] = [
    [{ volumes: [{ ...volume, sizeBytes: 7 }] }, /volumes\.0\.sizeBytes must be string: it is 7/],
    [{ volumes: [{ ...volume, sizeBytes: '-1' }] }, /volumes\.0\.sizeBytes/],
    [{ volumes: [{ ...volume, sizeBytes: '1', state: 'new' }] }, /volumes\.0\.state/],
    [{ volumes: [{ ...volume, sizeBytes: '1', createdAt: 'yesterday' }] }, /volumes\.0\.createdAt/],
    [[], /volumes must be/],
    [null, /must be Object: it is null/],
    [{ status: 'Failure', message: 'no such route' }, /^no such route$/],
    [{ error: { code: 'from-the-future', message: 'cannot' } }, /^cannot$/],
  ]
  for (const [given, message] of cases) {
    answer = given
    const error = await rejection(buildDaemonKeeper(socketPath).list())
    assert.instance(error, VolumeError)
    assert.is((error as VolumeError).code, 'failed')
    assert.match(error.message, message)
  }
  server.close()
  await rm(folder, { recursive: true })
})

keeping.run()

const listing = suite('volumes list')

listing('shows sizes, usage, pods and ages, and no problems when there are none', async () => {
  const { make, mount, engine } = await openEngine()
  await make('web')
  await make('db', 20n * gibibyte, 'xfs')
  await mount('db', 'pod-1')
  await mount('db', 'pod-2', true)
  const { shown, visit: on } = visit(buildEngineKeeper(engine))
  await print(on, listVolumes(on))
  assert.is(
    shown.out,
    [
      'NAME     SIZE   USED   USE%   FS     STATE   PODS   AGE',
      'db     20 GiB    0 B     0%   xfs    ready      2   -',
      'web    10 GiB      -      -   ext4   ready      0   -',
      '',
    ].join('\n'),
  )
})

listing('adds pool, path and mounts when wide', async () => {
  const { make, mount, engine } = await openEngine()
  await make('web')
  const target = await mount('web', 'pod-1', true)
  const { shown, visit: on } = visit(buildEngineKeeper(engine))
  await print(on, listVolumes(on), 'wide')
  assert.match(shown.out, /PODS {3}AGE {3}POOL +PATH +MOUNTS\n/)
  assert.ok(shown.out.includes(`LVM memory   /dev/memory/web   ${target} (ro)\n`))
})

listing('tells below the table what is wrong', async () => {
  const { make, machine } = await openEngine()
  await make('web')
  machine.intents.set('web', { phase: 'removing', id: machine.volumes.get('web')?.id ?? '' })
  const { pool, mounts, filesystems, journal } = machine
  const restarted = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  await restarted.start()
  const { shown, visit: on } = visit(buildEngineKeeper(restarted))
  await print(on, listVolumes(on))
  assert.match(shown.out, /web {4}10 GiB .*removing/)
  assert.match(shown.out, '\n\n! web: its removal was not finished; remove it again\n')
})

listing('says so when there is nothing, and not on standard output', async () => {
  const { engine } = await openEngine()
  const { shown, visit: on } = visit(buildEngineKeeper(engine))
  await print(on, listVolumes(on))
  assert.equal(shown, { out: '', err: 'There are no volumes on this node.\n', questions: [] })
})

listing('gives the same as JSON and as YAML, empty too', async () => {
  const { make, engine } = await openEngine()
  const read = async (output: 'json' | 'yaml') => {
    const { shown, visit: on } = visit(buildEngineKeeper(engine), output)
    await print(on, listVolumes(on), output)
    return output === 'json' ? JSON.parse(shown.out) : parse(shown.out)
  }
  assert.equal(await read('json'), { volumes: [] })
  await make('web')
  const [volume] = (await read('json')).volumes
  assert.is(volume.sizeBytes, '10737418240')
  assert.is(volume.name, 'web')
  assert.equal(await read('yaml'), await read('json'))
})

const view: VolumeView = {
  name: 'web',
  driverKind: 'LOOP',
  sizeBytes: 10n * gibibyte,
  state: 'ready',
  fsType: 'ext4',
  path: '/volumes/.elastic-local/loop/web.img',
  createdAt: new Date('2026-03-02T06:00:00Z'),
  mounts: [
    { target: '/kubelet/pods/uid-1/volumes/volumes.k8s.elastic.co~elastic-local/web', readOnly: false },
    { target: '/mnt/elsewhere', readOnly: true },
  ],
  usage: {
    sizeBytes: 9n * gibibyte,
    usedBytes: 3n * gibibyte,
    freeBytes: 6n * gibibyte,
    inodes: 1000n,
    inodesUsed: 11n,
  },
  problems: ['it is nearly full'],
}
const poolReport: PoolReport = {
  name: '/volumes',
  driverKind: 'LOOP',
  sizeBytes: 100n * gibibyte,
  allocatedBytes: 10n * gibibyte,
  freeBytes: 90n * gibibyte,
  volumes: 1,
  unitBytes: 4096n,
  enforcesSize: true,
  problems: [],
}
const surroundings = { now, pools: [poolReport] }
const look = { paint: plain }

listing('counts a pod once, and only pods', () => {
  const again = { target: '/kubelet/pods/uid-1/volumes/x/other', readOnly: true }
  assert.equal(podsOf({ ...view, mounts: [...view.mounts, again] }), ['uid-1'])
  const devices = '/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices'
  const mounts = [`${devices}/publish/pvc-1/uid-2`, `${devices}/pvc-1/dev/uid-2`, `${devices}/publish/pvc-1/uid-3`]
  assert.equal(podsOf({ ...view, mounts: mounts.map((target) => ({ target, readOnly: false })) }), ['uid-2', 'uid-3'])
})

listing("does not show the whole disk's usage as that of a directory", () => {
  assert.match(formatVolumes([{ ...view, driverKind: 'BINDMOUNT' }], surroundings, {}, false), /10 GiB {6}- {6}- /)
})

listing('shows control characters in a path, instead of obeying them', () => {
  assert.match(formatVolumes([{ ...view, path: '/\u001b[2J' }], surroundings, {}, true), '/\\x1b[2J')
})

listing.run()

const showing = suite('volumes show')

showing('tells everything about a volume, and what to do', () => {
  assert.is(
    formatVolume(view, surroundings, look),
    `Name:         web
State:        ready
Size:         10 GiB (10737418240 bytes)
Filesystem:   ext4
Pool:         LOOP /volumes
Path:         /volumes/.elastic-local/loop/web.img
Created:      2026-03-02T06:00:00.000Z (3d4h ago)
Usage:        3 GiB of 9 GiB used (34%), 6 GiB available
Inodes:       11 of 1000 used (2%)
Mounts:       pod uid-1, read-write, /kubelet/pods/uid-1/volumes/volumes.k8s.elastic.co~elastic-local/web
              read-only, /mnt/elsewhere
Problems:     ! it is nearly full
                → Remove files, or grow it: "elastic-local volumes grow web <size>".
`,
  )
})

showing('says what is not known', () => {
  const { name, sizeBytes, path = '' } = view
  const bare: VolumeView = {
    name,
    sizeBytes,
    path,
    driverKind: 'BINDMOUNT',
    state: 'unfinished',
    mounts: [],
    problems: [],
  }
  const text = formatVolume(bare, { ...surroundings, pools: [] }, look)
  assert.match(text, /Filesystem: +that of the underlying disk\n/)
  assert.match(text, /Pool: +BINDMOUNT\n/)
  assert.match(text, /Created: +unknown\n/)
  assert.match(text, /Usage: +known only while it is mounted\n/)
  assert.match(text, /Mounts: +none\nProblems: +none\n/)
})

showing('says that a directory shares its disk, and that btrfs counts no inodes', () => {
  const usage = { sizeBytes: 9n, usedBytes: 3n, freeBytes: 6n, inodes: 0n, inodesUsed: 0n }
  const text = formatVolume({ ...view, driverKind: 'BINDMOUNT', usage }, surroundings, look)
  assert.match(text, /Underlying disk: +3 B of 9 B used \(34%\), 6 B available; shared by all volumes of the pool\n/)
  assert.match(text, /Inodes: +no limit\n/)
})

showing('finds advice for every problem that the engine and the pools can tell of', () => {
  const problems = [
    'its removal was not finished; remove it again',
    'it was never finished; mounting it finishes it',
    'its usage cannot be read: EIO: i/o error, statfs',
    'it is nearly full',
    'it is nearly out of inodes',
    'its filesystem is read-only, perhaps after an error',
    'the kernel has found errors on its filesystem',
    'part of it is on a missing disk',
    'its image /volumes/x.img is missing',
    'its directory /volumes/x is missing',
    'its device is suspended, which blocks all its users',
    'its unfinished work is unknown: x.json is empty',
    'its growth was not finished; grow it again',
    'mounting it failed: Cannot mount x as /dev/loop0 must hold one of ext4, xfs, btrfs: it is blank, and its filesystem is lost.',
    'mounting it failed: no',
    'unmounting it failed: no',
    'growing it failed: no',
    'removing it failed: no',
    'finishing its earlier work failed: no',
    'Cannot find volume x on node node-1, where it was created: its data is lost, or its disk is missing.',
  ]
  assert.equal(
    problems.filter((problem) => !adviseOnVolume({ name: 'x' }, problem)),
    [],
  )
  assert.is(new Set(problems.map((problem) => adviseOnVolume({ name: 'x' }, problem))).size, 17)
})

showing('advises to remove or grow by hand only what no claim has, as the daemon refuses that of others', () => {
  const claim = { namespace: 'shop', name: 'data' }
  const problems: [problem: string, alone: RegExp, claimed: RegExp][] = [
    ['its image /volumes/x.img is missing', /volumes remove x"/, /delete claim shop\/data, and PersistentVolume x if/],
    ['its removal was not finished; remove it again', /volumes remove x"/, /^Restarting the daemon finishes it/],
    ['it was never finished; mounting it finishes it', /volumes remove x"/, /delete claim shop\/data/],
    ['it is nearly full', /volumes grow x <size>"/, /raise the request of claim shop\/data/],
    ['part of it is on a missing disk', /"lvremove \/dev\/vg\/x"\.$/, /"lvremove .*, and then delete claim shop/],
  ]
  for (const [problem, alone, claimed] of problems) {
    const of = (more: object) => adviseOnVolume({ name: 'x', path: '/dev/vg/x', ...more }, problem) ?? ''
    assert.match(of({}), alone)
    assert.match(of({ claim }), claimed)
    assert.not.match(of({ claim }), /volumes (remove|grow) x/)
  }
})

showing('tells what failed last, and when', async () => {
  const failure = { operation: 'unmount', message: 'no', at: new Date('2026-03-05T09:58:00Z'), target: '/pods/a' }
  const text = formatVolume(
    { ...view, state: 'stuck', failure, problems: ['unmounting it failed: no'] },
    surroundings,
    look,
  )
  assert.match(text, /^State: +stuck$/m)
  assert.match(text, /^Last failure: +unmount of \/pods\/a, 2026-03-05T09:58:00\.000Z \(2m ago\)$/m)
  assert.match(text, /^Problems: +! unmounting it failed: no\n +→ It is retried automatically/m)
})

showing('gives the volume itself as JSON', async () => {
  const { make, engine } = await openEngine()
  await make('web')
  const { shown, visit: on } = visit(buildEngineKeeper(engine), 'json')
  assert.is(await showVolume(on, 'web'), 0)
  assert.is(JSON.parse(shown.out).name, 'web')
})

showing('fails for a volume that is not there, and for what can be no name', async () => {
  const { engine } = await openEngine()
  const { visit: on } = visit(buildEngineKeeper(engine))
  assert.match((await rejection(showVolume(on, 'nothing'))).message, 'Cannot find volume nothing on this node')
  assert.match((await rejection(showVolume(on, '../etc'))).message, 'Cannot use "../etc" as a volume name')
})

showing.run()

const growing = suite('volumes grow')

growing('says from what to what a volume has grown', async () => {
  const { make, engine } = await openEngine()
  await make('web')
  const { shown, visit: on } = visit(buildEngineKeeper(engine))
  assert.is(await growVolume(on, 'web', '20Gi'), 0)
  assert.is(shown.out, 'web has grown from 10 GiB to 20 GiB.\n')
})

growing('says that a volume has that size already, and that it never shrinks', async () => {
  const { make, engine } = await openEngine()
  await make('web')
  const { shown, visit: on } = visit(buildEngineKeeper(engine))
  assert.is(await growVolume(on, 'web', '10737418240'), 0)
  assert.is(await growVolume(on, 'web', '5Gi'), 0)
  assert.is(
    shown.out,
    'web has 10 GiB already.\nweb stays at 10 GiB: that is more than 5 GiB, and volumes never shrink.\n',
  )
})

growing('gives what was done as JSON', async () => {
  const { make, engine } = await openEngine()
  await make('web')
  const { shown, visit: on } = visit(buildEngineKeeper(engine), 'json')
  await growVolume(on, 'web', '20Gi')
  const { action, volume } = JSON.parse(shown.out)
  assert.equal([action, volume.sizeBytes], ['grown', '21474836480'])
})

growing('refuses sizes that are none, before asking anybody', async () => {
  const { engine } = await openEngine()
  const { visit: on } = visit(buildEngineKeeper(engine))
  for (const size of ['0', '-1', '1e3', '10GB', '9223372036854775808', '', 'much'])
    assert.match((await rejection(growVolume(on, 'web', size))).message, 'Cannot read the new size', size)
})

growing('passes on that there is no room, or no volume', async () => {
  const { make, engine } = await openEngine()
  await make('web')
  const { visit: on } = visit(buildEngineKeeper(engine))
  assert.is(((await rejection(growVolume(on, 'web', '1Ti'))) as VolumeError).code, 'no-space')
  assert.is(((await rejection(growVolume(on, 'nothing', '1Ti'))) as VolumeError).code, 'not-found')
})

growing.run()

const removing = suite('volumes remove')

removing('asks once, with size and number, and removes on yes', async () => {
  const { make, engine, machine } = await openEngine()
  await make('web')
  await make('db', 20n * gibibyte)
  await make('log')
  const keeper = buildEngineKeeper(engine)
  const one = visit(keeper, 'table', true)
  assert.is(await removeVolumes(one.visit, ['log'], { yes: false }), 0)
  assert.equal(one.shown.questions, ['Remove volume log (10 GiB) and all data in it?'])
  assert.is(one.shown.out, 'Removed log (10 GiB).\n')
  const two = visit(keeper, 'table', true)
  assert.is(await removeVolumes(two.visit, ['web', 'db', 'web'], { yes: false }), 0)
  assert.equal(two.shown.questions, ['Remove these 2 volumes (30 GiB) and all data in them?'])
  assert.is(two.shown.err, '  web (10 GiB)\n  db (20 GiB)\n')
  assert.is(machine.volumes.size, 0)
})

removing('keeps everything on no', async () => {
  const { make, engine, machine } = await openEngine()
  await make('web')
  const { shown, visit: on } = visit(buildEngineKeeper(engine), 'table', false)
  assert.is(await removeVolumes(on, ['web'], { yes: false }), 1)
  assert.is(shown.err, 'Nothing was removed.\n')
  assert.is(machine.volumes.size, 1)
})

removing('keeps everything where nobody can be asked and --yes is not said', async () => {
  const { make, engine, machine } = await openEngine()
  await make('web')
  const { visit: on } = visit(buildEngineKeeper(engine))
  const error = await rejection(removeVolumes(on, ['web'], { yes: false }))
  assert.is((error as VolumeError).code, 'invalid')
  assert.match(error.message, 'use --yes')
  assert.is(machine.volumes.size, 1)
})

removing('asks nothing with --yes', async () => {
  const { make, engine, machine } = await openEngine()
  await make('web')
  const { shown, visit: on } = visit(buildEngineKeeper(engine))
  assert.is(await removeVolumes(on, ['web'], { yes: true }), 0)
  assert.equal(shown, { out: 'Removed web (10 GiB).\n', err: '', questions: [] })
  assert.is(machine.volumes.size, 0)
})

removing('refuses what is mounted before asking, and with --yes goes on with the others', async () => {
  const { make, mount, engine, machine } = await openEngine()
  await make('web')
  await make('db')
  await mount('web', 'pod-1')
  const asked = visit(buildEngineKeeper(engine), 'table', true)
  const error = await rejection(removeVolumes(asked.visit, ['web', 'db'], { yes: false }))
  assert.is((error as VolumeError).code, 'busy')
  assert.match(error.message, 'Cannot remove web as it is mounted; first stop what uses it:\n  /kubelet/pods/pod-1/')
  assert.equal(asked.shown.questions, [])
  assert.is(machine.volumes.size, 2)
  const forced = visit(buildEngineKeeper(engine), 'json')
  assert.is(await removeVolumes(forced.visit, ['web', 'db'], { yes: true }), 1)
  const results: { name: string; action: string }[] = JSON.parse(forced.shown.out).results
  assert.equal(
    results.map(({ name, action }) => [name, action]),
    [
      ['web', 'failed'],
      ['db', 'removed'],
    ],
  )
  assert.match(forced.shown.err, 'is mounted on')
})

removing('is content with a volume that is not there, asks nothing, and says so', async () => {
  const { engine } = await openEngine()
  const { shown, visit: on } = visit(buildEngineKeeper(engine))
  assert.is(await removeVolumes(on, ['nothing'], { yes: false }), 0)
  assert.is(shown.err, 'There is no volume nothing on this node; nothing to remove.\n')
})

removing('refuses all when one can be no name', async () => {
  const { make, engine, machine } = await openEngine()
  await make('web')
  const { visit: on } = visit(buildEngineKeeper(engine))
  for (const name of ['-rf', 'a b', 'ü', '', 'x'.repeat(300)])
    assert.match((await rejection(removeVolumes(on, ['web', name], { yes: true }))).message, 'as a volume name')
  assert.is(machine.volumes.size, 1)
})

removing('stops when the daemon is gone', async () => {
  const { make, keeper, stop } = await openDaemon()
  await make('web')
  await stop()
  const { visit: on } = visit(keeper)
  assert.instance(await rejection(removeVolumes(on, ['web'], { yes: true })), ClientError)
})

removing.run()

const pooling = suite('pools')

pooling('shows what is allocated and what is free', async () => {
  const { make, engine } = await openEngine()
  await make('web')
  const { shown, visit: on } = visit(buildEngineKeeper(engine))
  await print(on, listPools(on))
  assert.is(
    shown.out,
    'NAME     KIND      SIZE   ALLOCATED     FREE   ALLOC%   VOLUMES\nmemory   LVM    100 GiB      10 GiB   90 GiB      10%         1\n',
  )
  const json = visit(buildEngineKeeper(engine), 'json')
  await print(json.visit, listPools(json.visit), 'json')
  assert.is(JSON.parse(json.shown.out).pools[0].freeBytes, '96636764160')
})

pooling('shows the areas of a thin pool, and warns of promises that exceed it', () => {
  const thin = { dataPercent: 12.34, metadataPercent: 3, overcommitRatio: 2 }
  const text = formatPools([{ ...poolReport, driverKind: 'LVM', name: 'vg/thin', thin }], {}, false)
  assert.match(text, /DATA% {3}META% {3}OVERCOMMIT\n/)
  assert.match(text, /12\.3% {6}3% {11}2\.0x|12\.3% {6}3% {11,}2x\n/)
  assert.match(text, 'vg/thin: it may be overcommitted')
})

pooling('says when sizes are not enforced, and what is wrong', () => {
  const text = formatPools(
    [{ ...poolReport, enforcesSize: false, problems: ['1 of its disks are missing'] }],
    {},
    false,
  )
  assert.match(text, '\n\n! /volumes: 1 of its disks are missing\n/volumes: sizes are counted, not enforced.')
})

pooling.run()
