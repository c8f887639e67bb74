import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { formatLvmAnswer, readFixture } from '../../test/lvm-fixtures.ts'
import { suite } from '../../test/suite.ts'
import { VolumeError, type VolumeErrorCode } from '../volume/errors.ts'
import { buildClaim } from './claim.ts'
import { LvmPool, type LvmPoolParts } from './pool.ts'
import { type LvmAnswer, parseAnswer, type Row } from './report.ts'
import type { LvmRunner, LvmShell } from './shell.ts'
import type { ThinOptions } from './thin.ts'

const test = suite('LVM pool')
const mebibyte = 1n << 20n
const extentBytes = 4n * mebibyte
/** A name that no device of this machine has. */
const volumeGroup = 'elastic-local-test-none'
const thin: ThinOptions = { poolName: 'pool', overcommitRatio: 1, dataWatermark: 90, metadataWatermark: 80 }
const request = { id: 'an-id', sizeBytes: 8n * mebibyte, fsType: 'ext4' } as const

const rowsOf = (name: string): LvmAnswer => {
  const { command, text } = readFixture(name)
  return parseAnswer(command, text)
}
/** What was recorded has fewer columns. */
const lvRow = { lv_suspended: '', lv_device_open: '', origin: '', zero: 'unknown', lv_when_full: '', chunk_size: '0' }
const disk = { pv_allocatable: 'allocatable', pv_missing: '', pv_pe_count: '1000', pv_pe_alloc_count: '0' }
const groupRow: Row = {
  ...rowsOf('shell-group').vg[0],
  ...disk,
  vg_name: volumeGroup,
  max_lv: '0',
  vg_exported: '',
  vg_tags: '',
}
const poolRow: Row = {
  ...lvRow,
  ...rowsOf('shell-list-thin').lv[0],
  zero: 'zero',
  lv_when_full: 'error',
  chunk_size: '65536',
}
const linearRow: Row = { ...lvRow, ...rowsOf('shell-list-volume').lv[0] }

/** Not active, as this machine has no such device. */
const linearVolume = (name: string, changes: Row = {}): Row => ({
  ...linearRow,
  lv_name: name,
  lv_tags: 'elastic-local',
  lv_active: '',
  ...changes,
})
const thinPool = (changes: Row = {}): Row => ({ ...poolRow, lv_name: 'pool', lv_tags: '', ...changes })
const thinVolume = (name: string, sizeBytes: bigint): Row =>
  linearVolume(name, { segtype: 'thin', pool_lv: 'pool', lv_size: String(sizeBytes) })

const none: LvmAnswer = { lv: [], vg: [], seg: [] }

/** A shell on a volume group that is only rows. Its reports are those rows; every other command succeeds or ends in `answers`. */
class FakeShell implements Pick<LvmShell, 'run' | 'pending' | 'close'> {
  readonly changes: string[] = []
  pending: LvmShell['pending'] = { waiting: 0 }
  group: Row
  volumes: Row[]
  moreDisks: Row[] = []
  readonly #answers: Record<string, string>

  constructor(parts: { group?: Row; volumes?: Row[]; answers?: Record<string, string> }) {
    this.group = { ...groupRow, ...parts.group }
    this.volumes = parts.volumes ?? []
    this.#answers = parts.answers ?? {}
  }

  run: LvmRunner = async (command) => {
    const [verb = ''] = command
    const text = this.#answers[verb]
    if (verb !== 'vgs' && verb !== 'lvs') this.changes.push(command.join(' '))
    if (text) return parseAnswer(command, text)
    if (verb === 'vgs')
      return { ...none, vg: [{ ...this.group, lv_count: String(this.volumes.length) }, ...this.moreDisks] }
    if (verb !== 'lvs') return none
    const name = command.at(-1)?.split('/')[1]
    return { ...none, lv: this.volumes.filter((row) => name === undefined || row.lv_name === name) }
  }

  async close(): Promise<void> {}
}

function openPool(
  parts: ConstructorParameters<typeof FakeShell>[0] & { thin?: ThinOptions } & Partial<
      Pick<LvmPoolParts, 'zero' | 'uptimeMs' | 'slowCommandMs' | 'backupFile' | 'claim'>
    > = {},
) {
  const shell = new FakeShell(parts)
  const warnings: string[] = []
  const pool = new LvmPool({
    shell,
    volumeGroup,
    thin: parts.thin,
    zero: parts.zero ?? (async () => {}),
    now: () => new Date(0),
    uptimeMs: parts.uptimeMs ?? (() => 0),
    claim: parts.claim,
    ...(parts.backupFile ? { backupFile: parts.backupFile } : {}),
    ...(parts.slowCommandMs ? { slowCommandMs: parts.slowCommandMs } : {}),
    log: { warn: (message) => warnings.push(message) },
  })
  return { shell, pool, warnings }
}

test('start() says how to make a volume group that is missing', async () => {
  const { pool } = openPool({ answers: { vgs: readFixture('shell-group-missing').text } })
  await rejects(
    'unavailable',
    /create-vg --lvm-volume-group elastic-local-test-none <disk>….*Volume group "nope" not found/s,
    () => pool.start(),
  )
})

test('a volume group that is gone from its disks is not to be recreated but restored, whatever is asked for', async () => {
  const missing = readFixture('shell-group-missing').text
  const backupFile = import.meta.filename
  const restored = new RegExp(
    `existed before; do not recreate it.*"vgcfgrestore --file ${backupFile} ${volumeGroup}"`,
    's',
  )
  await rejects('unavailable', restored, () => openPool({ answers: { vgs: missing }, backupFile }).pool.start())
  const { pool } = openPool({ answers: { lvcreate: missing }, backupFile })
  await rejects('unavailable', restored, () => pool.create('one', request))
  const without = openPool({ answers: { lvcreate: missing } })
  await rejects('unavailable', /existed before.*see vgcfgrestore\(8\)/s, () => without.pool.create('one', request))
})

test('start() activates what is ours and the thin pool, and goes on with what could be activated', async () => {
  const failing = formatLvmAnswer({}, ['device-mapper: reload failed'])
  const volumes = [thinPool({ lv_active: '' }), linearVolume('ours'), linearVolume('theirs', { lv_tags: '' })]
  const { pool, shell, warnings } = openPool({
    group: { vg_missing_pv_count: '1' },
    volumes,
    thin,
    answers: { lvchange: failing },
  })
  await pool.start()
  assert.equal(shell.changes, [
    `lvchange --activate y ${volumeGroup}/pool`,
    `lvchange --activate y --select lv_tags=elastic-local ${volumeGroup}`,
  ])
  assert.match(warnings.join('\n'), /lacks a disk.*\n.*could be activated: .*reload failed/)
  const theirs = openPool({ volumes: [linearVolume('theirs', { lv_tags: '' })] })
  await theirs.pool.start()
  assert.equal(theirs.shell.changes, [])
})

test('create() makes a linear volume of whole extents, marked in the same step', async () => {
  const { pool, shell } = openPool()
  const { action, volume } = await pool.create('one', { ...request, sizeBytes: 8n * mebibyte + 1n })
  assert.is(action, 'created')
  assert.is(volume.sizeBytes, 12n * mebibyte)
  assert.equal(shell.changes, [
    `lvcreate --yes --name one --type linear --size ${12n * mebibyte}b --wipesignatures y --zero y --addtag elastic-local --addtag elastic-local.id=an-id --addtag elastic-local.fs=ext4 ${volumeGroup}`,
  ])
})

test('names that LVM keeps for itself, and that of the thin pool, are refused before anything is run', async () => {
  const { pool, shell } = openPool({ thin })
  for (const name of ['snapshot', 'snapshot1', 'pvmove0', 'pool'])
    await rejects('invalid', new RegExp(`Cannot create ${name} as that name is reserved`), () =>
      pool.create(name, request),
    )
  assert.equal(shell.changes, [])
})

test('create() leaves what has that name: ours is what was asked for, anything else is in the way', async () => {
  const answers = { lvcreate: readFixture('shell-create-exists').text }
  const ours = openPool({ answers, volumes: [linearVolume('one', { lv_tags: 'elastic-local,elastic-local.id=x' })] })
  const found = await ours.pool.create('one', request)
  assert.is(found.action, 'unchanged')
  assert.is(found.volume.id, 'x')
  const theirs = openPool({ answers, volumes: [linearVolume('one', { lv_tags: 'elastic-local-2,backup' })] })
  await rejects('exists', /\/dev\/elastic-local-test-none\/one exists without our tag "elastic-local"/, () =>
    theirs.pool.create('one', request),
  )
  assert.is(theirs.shell.changes.length, 1)
})

/** What the recorded failures of each command are to the caller. */
const codes: [
  keyof Pick<LvmPool, 'create' | 'grow' | 'remove' | 'activate' | 'list'>,
  string,
  string,
  VolumeErrorCode,
][] = [
  ['create', 'lvcreate', 'shell-create-no-space', 'no-space'],
  ['create', 'lvcreate', 'shell-create-metadata-full', 'no-space'],
  ['create', 'lvcreate', 'create-thin-out-of-data', 'no-space'],
  ['create', 'lvcreate', 'shell-create-thin-pool-no-space', 'no-space'],
  ['create', 'lvcreate', 'shell-create-bad-tag', 'failed'],
  ['grow', 'lvextend', 'shell-extend-no-space', 'no-space'],
  ['grow', 'lvextend', 'shell-extend-missing', 'not-found'],
  ['grow', 'lvextend', 'shell-extend-same-linear', 'failed'],
  ['remove', 'lvremove', 'shell-remove-open', 'busy'],
  ['remove', 'lvremove', 'shell-remove-open-thin', 'busy'],
  ['remove', 'lvremove', 'shell-remove-open-btrfs', 'busy'],
  ['remove', 'lvremove', 'shell-remove-in-use', 'busy'],
  ['remove', 'lvremove', 'shell-remove-missing', 'not-found'],
  ['activate', 'lvchange', 'shell-change-missing', 'not-found'],
  ['activate', 'lvchange', 'shell-activate-thin-pending', 'failed'],
  ['list', 'lvs', 'shell-list-missing-group', 'unavailable'],
  ['list', 'vgs', 'shell-group-missing', 'unavailable'],
]

test("LVM's recorded failures become errors of the right kind, with its words", async () => {
  for (const [method, verb, fixture, code] of codes) {
    const { command, text } = readFixture(fixture)
    const { pool } = openPool({ volumes: method === 'create' ? [] : [linearVolume('one')], answers: { [verb]: text } })
    const calls = {
      create: () => pool.create('one', request),
      grow: () => pool.grow('one', 1n << 30n),
      remove: () => pool.remove('one'),
      activate: () => pool.activate('one'),
      list: () => pool.list(),
    }
    await rejects(code, new RegExp(`^Cannot .*: lvm ${command[0]} exited with [35]: `, 's'), calls[method])
  }
})

test('only what carries our tag is listed, found, grown, removed or activated', async () => {
  const foreign = { untagged: '', similar: 'elastic-local-2', elsewhere: 'elastic-local.id=x' }
  const volumes = [
    linearVolume('ours'),
    ...Object.entries(foreign).map(([name, lv_tags]) => linearVolume(name, { lv_tags })),
  ]
  const { pool, shell } = openPool({ volumes })
  assert.equal(
    (await pool.list()).map((volume) => volume.name),
    ['ours'],
  )
  for (const name of Object.keys(foreign)) {
    assert.is(await pool.find(name), undefined)
    await rejects('not-found', new RegExp(name), () => pool.grow(name, 1n << 40n))
    await rejects('not-found', new RegExp(name), () => pool.activate(name))
    assert.equal(await pool.remove(name), { action: 'unchanged' })
  }
  assert.equal(shell.changes, [])
  assert.is((await pool.report()).volumes, 1)
})

test('a thin pool and the parts of one are no volumes, even with our tag', async () => {
  const volumes = rowsOf('shell-list-thin').lv.map((row) => ({ ...lvRow, ...row }))
  const { pool, shell } = openPool({ volumes, thin: { ...thin, poolName: 'elastic-local-thinpool' } })
  assert.equal(
    (await pool.list()).map((volume) => volume.name.slice(-2)),
    ['02', '03'],
  )
  assert.equal(await pool.remove('elastic-local-thinpool'), { action: 'unchanged' })
  assert.equal(shell.changes, [])
})

test('what LVM would remove along is named, and nothing is removed: snapshots, but thin ones, and what shows its blocks', async () => {
  const theirs = { lv_tags: '', origin: 'one' }
  const dependents = [
    linearVolume('snap', theirs),
    linearVolume('shows', { ...theirs, segtype: 'thin', pool_lv: 'pool' }),
  ]
  const { pool, shell } = openPool({ volumes: [linearVolume('one'), linearVolume('two'), ...dependents] })
  const refused = /Cannot remove one as .*depends on it: \S+\/snap, \S+\/shows; remove that first/
  await rejects('busy', refused, () => pool.mustBeFree('one'))
  await rejects('busy', refused, () => pool.remove('one'))
  assert.equal(shell.changes, [])
  assert.is((await pool.remove('two')).action, 'removed')
  const snapshot = { ...thinVolume('snap', extentBytes), lv_tags: '', origin: 'one' }
  const thinOnes = openPool({ volumes: [thinVolume('one', extentBytes), snapshot] })
  assert.is((await thinOnes.pool.remove('one')).action, 'removed')
})

test('what a process has open is not removed, unless that ends soon, as it does of one that only looks', async () => {
  const { pool, shell } = openPool({ volumes: [linearVolume('one', { lv_device_open: 'open' })] })
  const refused =
    /^Cannot remove one as a process that is not seen from here has \/dev\/elastic-local-test-none\/one open; stop that first/
  await rejects('busy', refused, () => pool.mustBeFree('one'))
  assert.equal(shell.changes, [])
  const removed = pool.remove('one')
  await new Promise(setImmediate)
  shell.volumes = [linearVolume('one')]
  assert.is((await removed).action, 'removed')
})

test('creations that are asked for at once share a look at the group', async () => {
  const { pool, shell } = openPool()
  await pool.start()
  const run = shell.run
  const looks: string[] = []
  shell.run = async (command) => {
    looks.push(command[0] ?? '')
    return await run(command)
  }
  await Promise.all(['one', 'two', 'three'].map((name) => pool.create(name, request)))
  assert.equal(looks, ['vgs', 'lvcreate', 'lvcreate', 'lvcreate'])
  await pool.create('four', request)
  assert.equal(looks.slice(4), ['vgs', 'lvcreate'])
})

test('all who wait for a look at the group share one', async () => {
  const { pool, shell } = openPool({ volumes: [linearVolume('one'), linearVolume('two')] })
  const run = shell.run
  const looks: string[] = []
  shell.run = async (command) => {
    looks.push(command[0] ?? '')
    return await run(command)
  }
  await Promise.all(['one', 'two', 'three', 'four'].map((name) => pool.mustBeFree(name)))
  assert.equal(looks, ['vgs', 'lvs'])
})

test('a group is believed to be empty only where its own row says so', async () => {
  const { pool, shell } = openPool({ volumes: [linearVolume('one')] })
  const run = shell.run
  let looks = 0
  shell.run = async (command) => {
    if (command[0] !== 'lvs') return await run(command)
    looks += 1
    return looks === 1 ? none : await run(command)
  }
  assert.is((await pool.list()).length, 1)
  shell.run = async (command) => (command[0] === 'lvs' ? none : await run(command))
  // Upon an answer that there is none, its PV is let go.
  for (const work of [() => pool.list(), () => pool.remove('one'), () => pool.remove('two')])
    await rejects('failed', /it has 1 logical volumes, and shows none/, work)
})

test('a group that was exported, or that another has taken the place of, offers nothing and tells of no volume', async () => {
  for (const [changes, said] of [
    [{ vg_exported: 'exported' }, /it is exported; .*"vgimport elastic-local-test-none"/],
    [{ vg_uuid: 'another' }, /it is another group than .* started with, which had UUID 8frY6e-.*: it has another/],
  ] as const) {
    const { pool, shell } = openPool({ volumes: [linearVolume('one')] })
    await pool.start()
    Object.assign(shell.group, changes)
    await rejects('unavailable', said, () => pool.list())
    await rejects('unavailable', said, () => pool.remove('one'))
    const { freeBytes, problems } = await pool.report()
    assert.is(freeBytes, 0n)
    assert.match(problems.join(), said)
  }
})

test('a group is claimed at the start, and one that another has claimed is neither used nor told of', async () => {
  const [claim, other] = [buildClaim('1'.repeat(32), '/a'), buildClaim('1'.repeat(32), '/b')]
  const { pool, shell } = openPool({ volumes: [linearVolume('one', { lv_active: 'active' })], claim })
  const run = shell.run
  shell.run = async (command) => {
    if (command[1] === '--addtag') shell.group.vg_tags += `,${command[2]}`
    return await run(command)
  }
  await pool.start()
  await pool.start()
  assert.equal(
    shell.changes.filter((change) => /addtag/.test(change)),
    [`vgchange --addtag ${claim} ${volumeGroup}`],
  )
  const said =
    /it is claimed by the daemon of this machine with --volumes-dir \/b, .*"vgchange --deltag elastic-local.daemon=1+:\/b /
  shell.group.vg_tags = other
  for (const work of [() => pool.start(), () => pool.list(), () => pool.create('two', request)])
    await rejects('unavailable', said, work)
  assert.is((await pool.report()).freeBytes, 0n)
  // Two at once: whoever sees the other's claim takes its own back.
  const late = openPool({ claim })
  const runLate = late.shell.run
  late.shell.run = async (command) => {
    if (command[1] === '--addtag') late.shell.group.vg_tags = `${claim},${other}`
    return await runLate(command)
  }
  await rejects('unavailable', said, () => late.pool.start())
  assert.is(late.shell.changes.at(-1), `vgchange --deltag ${claim} ${volumeGroup}`)
})

test('a group with as many volumes as it may have offers nothing', async () => {
  const { pool } = openPool({ volumes: [linearVolume('one')], group: { max_lv: '1' } })
  const { freeBytes, problems } = await pool.report()
  assert.is(freeBytes, 0n)
  assert.match(problems.join(), /it has the 1 logical volumes that it can have/)
})

test('what was left suspended is resumed by the next look of a pool that was started, and reported', async () => {
  const volumes = [linearVolume('one', { lv_suspended: 'suspended' }), thinPool({ lv_suspended: 'suspended' })]
  const theirs = linearVolume('theirs', { lv_tags: '', lv_suspended: 'suspended' })
  let now = 0
  const { pool, shell, warnings } = openPool({ volumes: [...volumes, theirs], thin, uptimeMs: () => now })
  assert.match((await pool.list())[0]?.problem ?? '', /its device is suspended/)
  assert.equal(shell.changes, [])
  await pool.start()
  shell.changes.length = 0
  const told = ['one', 'pool'].map((name) => `${name} was left suspended, which blocked all its users, and was resumed`)
  const { freeBytes, problems } = await pool.report()
  assert.equal([problems, freeBytes > 0n], [told, true])
  assert.equal(shell.changes, [`lvchange --refresh ${volumeGroup}/one`, `lvchange --refresh ${volumeGroup}/pool`])
  await new Promise(setImmediate)
  assert.match(warnings.join('\n'), /one was left suspended.*\npool was left suspended/)
  // Whoever looked first, the next who asks is told.
  for (const row of volumes) row.lv_suspended = ''
  now = 59_999
  assert.equal((await pool.report()).problems, told)
  now = 60_000
  assert.equal((await pool.report()).problems, [])
})

test('grow() extends to whole extents, and asks LVM for nothing when the volume is as large already', async () => {
  const { pool, shell } = openPool({ volumes: [linearVolume('one', { lv_size: String(8n * mebibyte) })] })
  for (const sizeBytes of [1n, 4n * mebibyte, 8n * mebibyte])
    assert.is((await pool.grow('one', sizeBytes)).action, 'unchanged')
  const grown = await pool.grow('one', 8n * mebibyte + 1n)
  assert.is(grown.action, 'grown')
  assert.is(grown.volume.sizeBytes, 12n * mebibyte)
  assert.equal(shell.changes, [`lvextend --size ${12n * mebibyte}b ${volumeGroup}/one`])
})

/** A pool with a block device of 8 MiB, and a shell that knows room as a volume; `zeroed` is what was made zeros, and after what. */
function openBlockPool(zeroes: () => Promise<void> = async () => {}, ranges = ['/dev/sdb:10-11', '/dev/sdc:0-0']) {
  const block = linearVolume('one', { lv_size: String(8n * mebibyte), lv_tags: 'elastic-local,elastic-local.fs=block' })
  const zeroed: string[] = []
  const zero = async (device: string) => {
    zeroed.push(`${device} after ${shell.changes.at(-1)?.split(' ')[0]}`)
    await zeroes()
  }
  const { pool, shell } = openPool({ volumes: [block], zero })
  const room = linearVolume('one_room', { lv_tags: 'elastic-local.room' })
  const run = shell.run
  shell.run = async (command) => {
    if (command.includes('--segments')) return { ...none, seg: ranges.map((seg_pe_ranges) => ({ seg_pe_ranges })) }
    const answer = await run(command)
    if (command[0] === 'lvcreate') shell.volumes.push(room)
    if (command[0] === 'lvremove') shell.volumes = shell.volumes.filter((row) => row !== room)
    return answer
  }
  return { pool, shell, zeroed, room }
}
const makesRoom = `lvcreate --yes --name one_room --type linear --size ${12n * mebibyte}b --wipesignatures y --zero y --addtag elastic-local.room ${volumeGroup}`
const removesRoom = `lvremove --yes ${volumeGroup}/one_room`

test('grow() gives a block device the very extents that were made zeros before, as its user sees them at once', async () => {
  const { pool, shell, zeroed } = openBlockPool()
  assert.is((await pool.grow('one', 20n * mebibyte)).volume.sizeBytes, 20n * mebibyte)
  assert.equal(shell.changes, [
    makesRoom,
    removesRoom,
    `lvextend --extents +3 ${volumeGroup}/one /dev/sdb:10-11 /dev/sdc:0-0`,
  ])
  assert.equal(zeroed, [`/dev/${volumeGroup}/one_room after lvcreate`])
  shell.changes.length = 0
  shell.volumes = shell.volumes.map((row) => ({ ...row, lv_size: String(20n * mebibyte) }))
  assert.is((await pool.grow('one', 20n * mebibyte)).action, 'unchanged')
  assert.equal(shell.changes, [])
})

test('grow() of a block device names no more extents at a time than a command may have words', async () => {
  const { pool, shell } = openBlockPool(
    undefined,
    Array.from({ length: 120 }, (_, index) => `/dev/sdb:${2 * index}-${2 * index}`),
  )
  await pool.grow('one', 20n * mebibyte)
  assert.equal(
    shell.changes.filter((line) => line.startsWith('lvextend')).map((line) => line.split(' ')[2]),
    ['+50', '+50', '+20'],
  )
})

test('grow() of a block device that cannot be made zeros changes nothing, nor does one whose place nobody can tell', async () => {
  const failing = async () => {
    throw new VolumeError('failed', 'the disk burns')
  }
  const burning = openBlockPool(failing)
  await rejects('failed', /burns/, () => burning.pool.grow('one', 20n * mebibyte))
  const strange = openBlockPool(undefined, ['striped'])
  await rejects('failed', /Cannot tell where .*one_room lies: LVM says "striped"/, () =>
    strange.pool.grow('one', 20n * mebibyte),
  )
  for (const { shell } of [burning, strange]) assert.equal(shell.changes, [makesRoom, removesRoom])
})

test('room that a killed daemon was making is removed at the next start, and when the volume grows again', async () => {
  const { pool, shell, room } = openBlockPool()
  shell.volumes.push(room)
  await pool.start()
  assert.ok(shell.changes.includes(removesRoom))
  shell.volumes.push(room)
  shell.changes.length = 0
  await pool.grow('one', 20n * mebibyte)
  assert.equal(shell.changes.slice(0, 2), [removesRoom, makesRoom])
})

test('grow() of a block device removes nothing that has the name of its room and is not that', async () => {
  for (const lv_tags of ['', 'elastic-local']) {
    const { pool, shell, room } = openBlockPool()
    shell.volumes.push({ ...room, lv_tags })
    await rejects('exists', /^Cannot grow one as .*\/one_room is there without our tag/, () =>
      pool.grow('one', 20n * mebibyte),
    )
    assert.equal(shell.changes, [])
  }
})

test('an active volume whose device is not what LVM says, after an lvextend that was killed, is refreshed before use', async () => {
  const volumes = [linearVolume('one', { lv_active: 'active' })]
  const calls: ((pool: LvmPool) => Promise<unknown>)[] = [
    (pool) => pool.start(),
    (pool) => pool.activate('one'),
    (pool) => pool.grow('one', 1n),
  ]
  for (const call of calls) {
    const { pool, shell } = openPool({ volumes })
    await call(pool)
    assert.is(shell.changes.at(-1), `lvchange --refresh ${volumeGroup}/one`)
  }
})

test('a volume tells its size, id, filesystem and age, and its device only while it is active', async () => {
  const lv_tags = 'elastic-local,elastic-local.id=x,elastic-local.fs=xfs'
  const { pool } = openPool({ volumes: [linearVolume('one', { lv_tags, lv_active: 'active' }), linearVolume('two')] })
  const [one, two] = await pool.list()
  const path = `/dev/${volumeGroup}/one`
  assert.equal(one, {
    name: 'one',
    path,
    id: 'x',
    fsType: 'xfs',
    leavesBlocks: true,
    sizeBytes: BigInt(linearRow.lv_size ?? 0),
    createdAt: new Date(Number(linearRow.lv_time) * 1000),
    source: { kind: 'device', path },
  })
  assert.equal([two?.id, two?.fsType, two?.source], [undefined, undefined, undefined])
})

test('create() refuses from 90 % of the metadata area on, as a group whose description does not fit cannot be changed', async () => {
  const usable = 1044480 / 2
  const nearly = openPool({ group: { vg_mda_free: String(usable * 0.1 + 512) } })
  await nearly.pool.create('one', request)
  const full = openPool({ group: { vg_mda_free: String(usable * 0.1) } })
  await rejects(
    'no-space',
    /metadata area of volume group .* nearly full \(51 KiB of 510 KiB free\).*--metadatasize/,
    () => full.pool.create('one', request),
  )
  assert.equal(full.shell.changes, [])
  assert.match((await full.pool.report()).problems.join(), /metadata area is nearly full/)
  assert.equal((await nearly.pool.report()).problems, [])
})

test('create() looks at the group each time: at its metadata area, and whether it is the same', async () => {
  const { pool, shell } = openPool({ group: { vg_mda_free: String((1044480 / 2) * 0.1 + 20 * 1024) } })
  await pool.create('first', request)
  shell.group = { ...shell.group, vg_mda_free: '0' }
  await rejects('no-space', /metadata area/, () => pool.create('second', request))
  shell.group = { ...shell.group, vg_uuid: 'another' }
  await rejects('unavailable', /another group/, () => pool.create('second', request))
  assert.is(shell.changes.length, 1)
})

test('report() of linear volumes counts what is promised and what is free', async () => {
  const volumes = [
    linearVolume('one', { lv_size: '8388608' }),
    linearVolume('theirs', { lv_tags: '', lv_size: '4194304' }),
  ]
  const { pool, shell } = openPool({ volumes, group: { pv_pe_count: '20', pv_pe_alloc_count: '3' } })
  const report = {
    name: volumeGroup,
    id: groupRow.vg_uuid ?? '',
    driverKind: 'LVM' as const,
    sizeBytes: 19n * extentBytes,
    allocatedBytes: 2n * extentBytes,
    freeBytes: 17n * extentBytes,
    volumes: 1,
    unitBytes: extentBytes,
    enforcesSize: true,
    problems: [],
  }
  assert.equal(await pool.report(), report)
  shell.group.vg_missing_pv_count = '2'
  assert.equal(await pool.report(), {
    ...report,
    freeBytes: 0n,
    problems: ['2 of its disks are missing, so LVM creates and grows no volume in it'],
  })
})

test('the first thin volume makes the thin pool, which leaves room and refuses writes when it is full', async () => {
  const { pool, shell } = openPool({ thin })
  await pool.create('one', request)
  assert.equal(shell.changes, [
    `lvcreate --yes --thin --extents 950 --poolmetadatasize 4194304b --poolmetadataspare y --errorwhenfull y --zero y --wipesignatures y ${volumeGroup}/pool`,
    `lvcreate --yes --name one --type thin --thinpool pool --virtualsize ${8n * mebibyte}b --addtag elastic-local --addtag elastic-local.id=an-id --addtag elastic-local.fs=ext4 ${volumeGroup}`,
  ])
})

test('a thin pool that is there is used', async () => {
  const { pool, shell } = openPool({ thin, volumes: [thinPool()] })
  await pool.create('one', request)
  assert.is(shell.changes.length, 1)
})

test('a thin pool may promise its data area times the overcommit ratio, and not one extent more', async () => {
  const poolBytes = 100n * extentBytes
  for (const [overcommitRatio, promisable] of [
    [1, 100n],
    [1.5, 150n],
    [0.5, 50n],
    [10, 1000n],
    [0.333, 33n],
  ] as const) {
    const volumes = [
      thinPool({ lv_size: String(poolBytes) }),
      thinVolume('a', 10n * extentBytes),
      thinVolume('b', 5n * extentBytes),
    ]
    const open = () => openPool({ thin: { ...thin, overcommitRatio }, volumes: [...volumes] })
    const left = (promisable - 15n) * extentBytes
    const fits = open()
    await fits.pool.create('c', { ...request, sizeBytes: left })
    const { pool, shell } = open()
    await rejects('no-space', new RegExp(`may promise .* more \\(overcommit ratio ${overcommitRatio}\\)`), () =>
      pool.create('c', { ...request, sizeBytes: left + 1n }),
    )
    await rejects('no-space', /may promise/, () => pool.grow('a', 10n * extentBytes + left + 1n))
    assert.is((await pool.grow('a', 10n * extentBytes + left)).action, 'grown')
    assert.is(shell.changes.length, 1)
    const report = await open().pool.report()
    assert.is(report.allocatedBytes, 15n * extentBytes)
    assert.is(report.sizeBytes, promisable * extentBytes)
    assert.is(report.freeBytes, report.sizeBytes - report.allocatedBytes)
  }
})

test('what is promised to volumes of others counts, too, and volumes outside the thin pool do not', async () => {
  const theirs = { ...thinVolume('theirs', 99n * extentBytes), lv_tags: '' }
  const volumes = [
    thinPool({ lv_size: String(100n * extentBytes) }),
    theirs,
    linearVolume('linear', { lv_size: String(1n << 40n) }),
  ]
  const { pool } = openPool({ thin, volumes })
  assert.is((await pool.report()).freeBytes, extentBytes)
  await rejects('no-space', /may promise 4 MiB more/, () =>
    pool.create('one', { ...request, sizeBytes: extentBytes + 1n }),
  )
})

test('a pool that promised too much already, after its ratio was lowered, has nothing left', async () => {
  const { pool } = openPool({ thin, volumes: [thinPool({ lv_size: '4194304' }), thinVolume('a', 8388608n)] })
  assert.is((await pool.report()).freeBytes, 0n)
  await rejects('no-space', /may promise 0 B more/, () => pool.create('one', request))
})

test('report() before there is a thin pool counts what it would be', async () => {
  const { pool } = openPool({ thin: { ...thin, overcommitRatio: 2 }, group: { pv_pe_count: '1023' } })
  const { sizeBytes, freeBytes, thin: fullness } = await pool.report()
  assert.equal([sizeBytes, freeBytes], [1942n * extentBytes, 1942n * extentBytes])
  assert.equal(fullness, { dataPercent: 0, metadataPercent: 0, overcommitRatio: 2 })
})

test('from a watermark on nothing new is made and nothing grows, and report() says why', async () => {
  const largeArea = { lv_metadata_size: String(1n << 30n) }
  const fullness: [Row, RegExp | undefined][] = [
    [{ data_percent: '89.99', metadata_percent: '79.99', ...largeArea }, undefined],
    [{ data_percent: '90.00' }, /90 % of its data area in use, and nothing new is created from 90 % on/],
    [{ data_percent: '100.00' }, /100 % of its data area/],
    [
      { metadata_percent: '80.00', ...largeArea },
      /80 % of its metadata area in use, and nothing new is created from 80 % on/,
    ],
    [
      { data_percent: '', metadata_percent: '', lv_health_status: 'failed' },
      /unhealthy \(LVM calls it failed\), and nothing new is created until/,
    ],
    [{ zero: '' }, /does not zero its blocks, which may hold others' data.*"lvchange --zero y"/],
    [{ lv_when_full: 'queue' }, /blocks writers when it is full.*"lvchange --errorwhenfull y"/],
    // LVM itself stops before the watermark where the area is small.
    [{ metadata_percent: '74.99' }, undefined],
    [{ metadata_percent: '75.00' }, /75 % of its metadata area in use, and nothing new is created from 75 % on/],
  ]
  for (const [changes, said] of fullness) {
    const { pool, shell } = openPool({ thin, volumes: [thinPool(changes), thinVolume('a', extentBytes)] })
    const report = await pool.report()
    if (said) {
      await rejects('no-space', said, () => pool.create('one', request))
      await rejects('no-space', said, () => pool.grow('a', 2n * extentBytes))
      assert.is(report.freeBytes, 0n)
      assert.match(report.problems.join(), said)
      assert.equal(shell.changes, [])
    } else {
      await pool.create('one', request)
      assert.equal(report.problems, [])
    }
  }
})

test('volumes of a thin pool with large chunks are made of whole ones, and no more is promised than it has', async () => {
  const chunkBytes = 3n * extentBytes
  const chunks = (count: bigint) => count * chunkBytes
  const row = thinPool({ chunk_size: String(chunkBytes), lv_size: String(chunks(4n) + extentBytes) })
  // Theirs takes two of them, though it is smaller.
  const { pool, shell } = openPool({ thin, volumes: [row, thinVolume('theirs', 4n * extentBytes)] })
  const { unitBytes, sizeBytes, freeBytes } = await pool.report()
  assert.equal([unitBytes, sizeBytes, freeBytes], [chunkBytes, chunks(4n), chunks(2n)])
  await rejects('no-space', /may promise/, () => pool.create('one', { ...request, sizeBytes: chunks(2n) + 1n }))
  assert.is((await pool.create('one', { ...request, sizeBytes: extentBytes })).volume.sizeBytes, chunkBytes)
  assert.match(shell.changes.join(), new RegExp(`--virtualsize ${chunkBytes}b`))
  // Chunks that are no multiple of extents, nor the other way round.
  shell.volumes = [thinPool({ chunk_size: String((3n * extentBytes) / 2n), lv_size: String(chunks(4n)) })]
  assert.is((await pool.report()).unitBytes, chunkBytes)
})

test('create() looks at the fullness of the thin pool each time', async () => {
  const { pool, shell } = openPool({ thin, volumes: [thinPool()] })
  await pool.create('one', request)
  shell.volumes = [thinPool({ data_percent: '95.00' })]
  await rejects('no-space', /95 % of its data area/, () => pool.create('two', request))
})

test('a logical volume that has the name of the thin pool and is none is a refusal that names it', async () => {
  const { pool, shell } = openPool({ thin, volumes: [linearVolume('pool', { lv_tags: '' })] })
  await rejects('no-space', /pool exists and is not a thin pool but linear/, () => pool.create('one', request))
  assert.equal(shell.changes, [])
})

test('while LVM gives no answer at the start it is said what runs, and for how long; then the pool is there', async () => {
  const { pool, shell } = openPool({ volumes: [linearVolume('one')], uptimeMs: () => 34_000 })
  await pool.mustBeThere()
  const { promise: answered, resolve } = Promise.withResolvers<void>()
  const run = shell.run
  shell.run = async (command) => {
    shell.pending = { running: { command, sinceMs: 0 }, waiting: 1 }
    await answered
    return await run(command)
  }
  const started = pool.start()
  await new Promise(setImmediate)
  const hanging = /Cannot use volumes .* since the daemon started: "vgs .*" has been running for 34 s. Check the/
  await rejects('unavailable', hanging, () => pool.mustBeThere())
  await rejects('unavailable', hanging, () => pool.report())
  shell.pending = { waiting: 0 }
  await rejects('unavailable', /since the daemon started. Check the/, () => pool.mustBeThere())
  shell.run = run
  resolve()
  await started
  await pool.mustBeThere()
  assert.is((await pool.report()).volumes, 1)
})

test('a pool whose start failed is asked again, as one that was never started', async () => {
  const { pool, shell } = openPool({ volumes: [] })
  const run = shell.run
  shell.run = () => Promise.reject(new Error('no'))
  await rejects('failed', /Cannot read volume group/, () => pool.start())
  shell.run = run
  await pool.mustBeThere()
  assert.is((await pool.report()).volumes, 0)
})

test('a command that runs for a minute is a problem that names it, and report() does not wait behind it', async () => {
  let now = 0
  const { pool, shell } = openPool({ volumes: [linearVolume('one')], uptimeMs: () => now })
  await pool.report()
  shell.pending = { running: { command: ['lvremove', '--yes', 'vg/x'], sinceMs: 0 }, waiting: 3 }
  now = 59_999
  assert.equal((await pool.report()).problems, [])
  now = 61_000
  shell.run = () => new Promise(() => {})
  const { problems, volumes } = await pool.report()
  assert.equal(problems, ['"lvremove --yes vg/x" has been running for 61 s and 3 commands wait behind it'])
  assert.is(volumes, 1)
  assert.is((await pool.list({ impatient: true })).length, 1)
})

test('report() and an impatient list() that began to wait before it was clear that a command hangs end too', async () => {
  let now = 0
  const { pool, shell } = openPool({ volumes: [linearVolume('one')], uptimeMs: () => now, slowCommandMs: 10 })
  await pool.report()
  shell.pending = { running: { command: ['lvremove', '--yes', 'vg/x'], sinceMs: 0 }, waiting: 0 }
  shell.run = () => new Promise(() => {})
  const answers = Promise.all([pool.report(), pool.list({ impatient: true })])
  now = 11
  const [{ problems }, volumes] = await answers
  assert.match(problems.join(), /"lvremove --yes vg\/x" has been running/)
  assert.is(volumes.length, 1)
})

const uid = '3e1d2c5a-93f4-4f7e-9a3b-2f6c1d5a7e11'
const claimed = 'pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11'
/** As others make them, whose device is there. */
const theirs = (name: string, changes: Row = {}) => linearVolume(name, { lv_tags: '', lv_active: 'active', ...changes })

test("foreign() tells what another project made, by its name or, once renamed, by the volume's", async () => {
  const { pool, shell } = openPool({ volumes: [theirs(uid)] })
  assert.equal((await pool.foreign(uid, claimed)).path, `/dev/${volumeGroup}/${uid}`)
  shell.volumes = [theirs(claimed)]
  assert.match((await pool.foreign(uid, claimed)).path, /none\/pvc-0b7c/)
  assert.match((await pool.foreign(claimed, claimed)).path, /none\/pvc-0b7c/)
  assert.equal(shell.changes, [])
})

test('foreign() refuses what cannot be a volume of this pool as it is', async () => {
  for (const [volumes, code, message, ofThin] of [
    [[], 'not-found', /has none of that name/],
    [[theirs(uid), theirs(claimed)], 'exists', /exists already, and is what it would be renamed to/],
    [[theirs(uid, { lv_tags: 'elastic-local' })], 'failed', /has a tag of ours already/],
    [[theirs(uid, { lv_tags: 'elastic-local.room' })], 'failed', /has a tag of ours already/],
    [[theirs(uid, { segtype: 'striped' })], 'failed', /volumes of this daemon are linear, and it is striped\./],
    [[theirs(uid, { segtype: 'thin', pool_lv: 'pool' })], 'failed', /are linear, and it is thin, of thin pool pool/],
    [[theirs(uid), thinPool()], 'failed', /are thin, of thin pool pool, and it is linear/, thin],
    [
      [theirs(uid, { segtype: 'thin', pool_lv: 'other' })],
      'failed',
      /thin pool pool, and it is thin, of .* other/,
      thin,
    ],
    [[theirs(uid, { lv_health_status: 'partial' })], 'failed', /LVM finds it partial/],
    [[theirs(uid, { lv_suspended: 'suspended' })], 'failed', /its device is suspended/],
    [[theirs(uid, { lv_active: '' })], 'failed', /"lvchange --activate y --ignoreactivationskip .*" activates it/],
    [[theirs(uid), theirs('cut', { origin: uid, segtype: 'linear' })], 'failed', /cut depends on it/],
  ] as [Row[], VolumeErrorCode, RegExp, ThinOptions?][]) {
    const { pool, shell } = openPool({ volumes, ...(ofThin ? { thin: ofThin } : {}) })
    await rejects(code, message, () => pool.foreign(uid, claimed))
    await rejects(code, message, () => pool.adopt(claimed, request, uid))
    assert.equal(shell.changes, [])
  }
})

test('adopt() renames what another project made, and marks it with what it holds', async () => {
  const { pool, shell } = openPool({ volumes: [theirs(uid)] })
  const run = shell.run
  shell.run = async (command, ...rest) => {
    if (command[0] === 'lvrename') shell.volumes = [theirs(claimed)]
    if (command[0] === 'lvchange')
      shell.volumes = [theirs(claimed, { lv_tags: 'elastic-local,elastic-local.id=an-id,elastic-local.fs=xfs' })]
    return await run(command, ...rest)
  }
  const { name, fsType, id } = await pool.adopt(claimed, { ...request, fsType: 'xfs' }, uid)
  assert.equal([name, fsType, id], [claimed, 'xfs', 'an-id'])
  assert.equal(shell.changes, [
    `lvrename ${volumeGroup} ${uid} ${claimed}`,
    `lvchange --addtag elastic-local --addtag elastic-local.id=an-id --addtag elastic-local.fs=xfs ${volumeGroup}/${claimed}`,
  ])
})

test.run()
