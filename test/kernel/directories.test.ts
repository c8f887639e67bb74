import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, readdir, readFile, rm, rmdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { DirectoryPool } from '../../src/mount/directory.ts'
import { type Runner, run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { rejects } from '../contract.ts'
import { openDirectoryWorld } from '../machine-world.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'

const test = suite('removal of directories')
const request = { id: 'one', sizeBytes: 1n << 20n, fsType: 'ext4' } as const

/** Gives `work` a pool with one volume, `one`, and the volume's folder. */
const withVolume = (
  work: (pool: DirectoryPool, path: string, scratch: string) => Promise<void>,
  runner: Runner = run,
) =>
  withScratch(async (scratch) => {
    const volumesDir = join(scratch, 'volumes')
    await mkdir(volumesDir)
    const pool = new DirectoryPool({ run: runner, volumesDir, now: () => new Date() })
    await pool.start()
    const { volume } = await pool.create('one', request)
    try {
      await work(pool, volume.path, scratch)
    } finally {
      await run('chattr', ['-R', '-i', scratch], { accept: [1] })
      await run('rm', ['-rf', '--one-file-system', '--', scratch])
    }
  })

const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  )

/** renameat2(2) and its flag that exchanges two names. */
const renameat2 = process.arch === 'arm64' ? '276' : '316'

/** Holds the folder open, and from there exchanges its folders for links to `outside`, and back, until it is ended. */
async function startSwapping(folder: string, outside: string): Promise<ChildProcess> {
  const script = `my ($call, $folder, $outside) = @ARGV; chdir $folder; my @folders = glob "d*"; $| = 1;
symlink $outside, "to-$_" for @folders; print "at work\n";
while (1) { for my $d (@folders) { syscall($call + 0, -100, $d, -100, "to-$d", 2) } }`
  const child = spawn('perl', ['-e', script, renameat2, folder, outside], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return child
}

test('a removal is not led outside by whoever holds an open folder of the volume', async () => {
  for (let round = 0; round < 20; round += 1)
    await withVolume(async (pool, path, scratch) => {
      const outside = join(scratch, 'outside')
      await mkdir(outside)
      const precious = Array.from({ length: 50 }, (_, index) => join(outside, `file-${index}`))
      for (const file of precious) await writeFile(file, 'precious')
      await run('sh', ['-c', 'cd "$1" && for i in $(seq 20); do mkdir d$i; touch d$i/a d$i/b; done', 'sh', path])
      const swapping = await startSwapping(path, outside)
      try {
        await pool.remove('one').catch(() => {})
      } finally {
        const ended = once(swapping, 'exit')
        swapping.kill('SIGKILL')
        await ended
      }
      assert.is((await readdir(outside)).length, precious.length, `round ${round}`)
      await pool.remove('one')
      assert.is(await pool.find('one'), undefined)
    })
})

test('whatever a pod may have left is removed: names that are no text, paths longer than any call takes, closed folders', () =>
  withVolume(async (pool, path) => {
    const deep = `chdir shift; my $name = "x" x 200; for (1 .. 100) { mkdir $name; chdir $name } open my $f, ">", "end"`
    await run('perl', ['-e', deep, path])
    await run('perl', [
      '-e',
      'chdir shift; mkdir "\\xff"; open my $f, ">", "\\xff/\\xfe\\n"; symlink "/", "root"',
      path,
    ])
    await run('sh', [
      '-c',
      'cd "$1"; mkdir closed; touch closed/file; chown -R 1234:1234 closed; chmod 0 closed',
      'sh',
      path,
    ])
    await run('mkfifo', [join(path, 'pipe')])
    assert.is((await pool.remove('one')).action, 'removed')
    assert.is(await pool.find('one'), undefined)
    assert.not(await isThere(path))
  }))

test('a removal that failed half way is finished by asking again', () =>
  withVolume(async (pool, path) => {
    await mkdir(join(path, 'held'))
    await writeFile(join(path, 'held/file'), 'text')
    await writeFile(join(path, 'other'), 'text')
    await run('chattr', ['+i', join(path, 'held/file')])
    await rejects('failed', /Cannot remove the directory of one: .*chattr/s, () => pool.remove('one'))
    assert.match((await pool.find('one'))?.problem ?? '', /missing/)
    await run('chattr', ['-R', '-i', path.replace(/one$/, '.elastic-local/trash/one')])
    assert.is((await pool.remove('one')).action, 'removed')
    assert.is((await pool.remove('one')).action, 'unchanged')
    assert.is((await pool.create('one', request)).action, 'created')
  }))

test('a removal that is cut is finished by asking again', () => {
  let isCut = true
  const cut: Runner = async (file, args, options) => {
    if (file === 'rm' && isCut) throw new Error('it was killed')
    return await run(file, args, options)
  }
  return withVolume(async (pool, path) => {
    await writeFile(join(path, 'file'), 'text')
    await rejects('failed', /it was killed/, () => pool.remove('one'))
    isCut = false
    assert.is((await pool.remove('one')).action, 'removed')
    assert.not(await isThere(path))
  }, cut)
})

test('a directory with files in it is not removed by the journal of an old backup', async () => {
  const world = await openDirectoryWorld()
  try {
    const { journal } = world.parts
    const startEngine = async () => {
      const engine = new Engine({ ...world.parts, journal: { ...journal, readMade: async () => new Map() } })
      await engine.start()
      await engine.recover()
      return engine
    }
    const spec = { sizeBytes: request.sizeBytes, fsType: 'ext4', mkfsOptions: [] } as const
    const { volume } = await (await startEngine()).create('one', spec)
    const intent = { phase: 'creating', id: volume.id ?? '', ...spec } as const
    await writeFile(join(volume.path, 'file'), 'precious')
    await journal.write('one', intent)
    await rejects('failed', /it holds files/, async () => (await startEngine()).attach('one'))
    assert.is(await readFile(join(volume.path, 'file'), 'utf8'), 'precious')
    await rm(join(volume.path, 'file'))
    assert.is(await (await startEngine()).find('one'), undefined)
  } finally {
    await world.close()
  }
})

test('what complains of every file takes no memory for that', async () => {
  const script = 'i=0; while [ $i -lt 40000 ]; do echo "cannot remove file number $i" >&2; i=$((i+1)); done; exit 1'
  await run('sh', ['-c', script]).then(
    () => assert.unreachable(),
    (error) => assert.ok(error.stderr.length < 256 * 1024, `${error.stderr.length} characters are kept`),
  )
})

test('many directories that are made or grown at once are promised no more than there is', () =>
  withScratch(async (disk) => {
    await run('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', disk])
    try {
      const pool = new DirectoryPool({ run, volumesDir: disk, now: () => new Date() })
      await pool.start()
      const names = ['p', 'q', 'r', 's', 't', 'u']
      const asked = (work: (name: string) => Promise<unknown>) => Promise.allSettled(names.map(work))
      const succeeded = (results: PromiseSettledResult<unknown>[]) =>
        results.filter(({ status }) => status === 'fulfilled').length
      const make = (name: string) => pool.create(name, { ...request, id: name, sizeBytes: 18n << 20n })
      assert.is(succeeded(await asked(make)), 3)
      assert.is(succeeded(await asked((name) => pool.grow(name, 25n << 20n))), 1)
      const { allocatedBytes, sizeBytes, volumes } = await pool.report()
      assert.ok(allocatedBytes <= sizeBytes, `${allocatedBytes} of ${sizeBytes} are promised`)
      assert.is(volumes, 3)
    } finally {
      await run('umount', [disk])
    }
  }))

test('only a directory right in the folder can be adopted, and no link to one', () =>
  withVolume(async (pool, path, scratch) => {
    const folder = join(scratch, 'volumes')
    const name = 'pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11'
    const origin = `${name}_default_data`
    const outside = join(scratch, 'outside')
    await mkdir(outside)
    await symlink(outside, join(folder, origin))
    for (const way of [() => pool.foreign(origin, name), () => pool.adopt(name, request, origin)])
      await rejects('failed', /it must be a directory/, way)
    await rm(join(folder, origin))
    for (const wrong of ['../outside', '..', '.', '', '.elastic-local', 'one/data', outside])
      await rejects('invalid', /right in/, () => pool.foreign(wrong, name))
    await rejects('not-found', /no such directory/, () => pool.foreign(origin, name))
    await mkdir(join(folder, origin), { mode: 0o777 })
    await mkdir(join(folder, name))
    await rejects('exists', /exists already, and is what it would be renamed to/, () =>
      pool.adopt(name, request, origin),
    )
    await rmdir(join(folder, name))
    assert.is((await pool.adopt(name, request, origin)).path, join(folder, name))
    assert.equal([await isThere(join(folder, origin)), await isThere(path)], [false, true])
  }))

test.run()
