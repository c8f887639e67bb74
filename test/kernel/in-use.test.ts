/** What is in use, though no table of ours shows it, is asked of the kernel. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdir, open, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { findHolder } from '../../src/mount/holders.ts'
import { run } from '../../src/run.ts'
import { Engine } from '../../src/volume/engine.ts'
import { rejects, type World } from '../contract.ts'
import { openDirectoryWorld, openLoopWorld } from '../machine-world.ts'
import { suite } from '../suite.ts'

const spec = { sizeBytes: 32n << 20n, fsType: 'ext4', mkfsOptions: [] } as const

/** A process in a mount namespace of its own, which is a copy of ours; it runs the script and then waits for its end. */
async function inNamespace(script: string, ...args: string[]): Promise<{ end(): Promise<void> }> {
  const command = ['--mount', '--propagation', 'private', '--', 'sh', '-ec', `${script}; echo ready; read end`, 'sh']
  return await started(spawn('unshare', [...command, ...args], { stdio: ['pipe', 'pipe', 'inherit'] }))
}

/** A process of this namespace that does as the Perl script says, and then waits for its end. */
const inPerl = async (script: string, ...args: string[]) =>
  await started(
    spawn('perl', ['-e', `$| = 1; ${script}; print "ready\\n"; <STDIN>`, ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    }),
  )

/** Nothing of a process that has ended. */
function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

const children = new Set<ChildProcess>()

async function started(child: ChildProcess) {
  children.add(child)
  const ended = once(child, 'close')
  const said = await Promise.race([once(child.stdout as NodeJS.ReadableStream, 'data'), ended.then(() => ['ended'])])
  assert.match(String(said[0]), /ready/)
  return {
    end: async () => {
      child.stdin?.end()
      await ended
    },
  }
}

for (const [kind, openWorld] of [
  ['LOOP', () => openLoopWorld({ preallocate: false })],
  ['BINDMOUNT', openDirectoryWorld],
] as const) {
  const test = suite(`in use, ${kind}`)

  /** Gives `work` a volume `one` that is mounted on `target`, with `file` in it. */
  const check = (name: string, work: (parts: { world: World; engine: Engine; target: string }) => Promise<void>) =>
    test(name, async () => {
      const world = await openWorld()
      try {
        const engine = new Engine(world.parts)
        await engine.start()
        const target = world.target('a', 'one')
        await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [], create: spec })
        await writeFile(join(target, 'file'), 'precious')
        await work({ world, engine, target })
      } finally {
        for (const child of children) child.kill('SIGKILL')
        children.clear()
        await world.close()
      }
    })

  /** While it is held, the volume cannot be removed, and is as it was; a daemon that starts anew mounts it. */
  async function isKept({ world, target }: { world: World; target: string }, holder: RegExp): Promise<void> {
    const engine = new Engine({ ...world.parts, ...(await world.renew()) })
    await engine.start()
    await engine.recover()
    await rejects('busy', holder, () => engine.remove('one'))
    assert.is((await engine.find('one'))?.state, 'ready')
    assert.equal(await world.parts.journal.read(), new Map())
    await engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
    assert.is(await world.read(target, 'file'), 'precious')
    await engine.unmount('one', target)
  }

  async function isRemoved({ world, engine }: { world: World; engine: Engine }): Promise<void> {
    assert.is((await engine.remove('one')).action, 'removed')
    assert.equal(await world.leftovers(), [])
  }

  check('a volume that is mounted in another namespace is not removed, and can be mounted again', async (parts) => {
    const holder = await inNamespace('exec 3>>"$1/more"; echo text >&3', parts.target)
    await parts.engine.unmount('one', parts.target)
    await isKept(parts, /process \d+ \(\S+\) has .*mounted on .*a\/one/)
    await holder.end()
    await isRemoved(parts)
  })

  check('a volume whose mount was taken away lazily, with a file still open, is not removed', async (parts) => {
    const file = await open(join(parts.target, 'file'), 'r+')
    await run('umount', ['--lazy', parts.target])
    await parts.engine.unmount('one', parts.target)
    if (kind === 'LOOP') await run('umount', ['--lazy', join(parts.world.parts.volumesDir, 'one')], { accept: [1, 32] })
    await isKept(parts, kind === 'LOOP' ? /the kernel has \/dev\/loop\d+ in use/ : /process \d+ .* has \/file open/)
    await file.close()
    await isRemoved(parts)
  })

  if (kind === 'LOOP') {
    test('the number of a block device whose node another namespace shows is given to no other volume', async () => {
      const world = await openWorld()
      try {
        const engine = new Engine(world.parts)
        await engine.start()
        const target = world.target('a', 'one')
        const request = {
          readOnly: false,
          mountOptions: [],
          fsType: 'block',
          create: { ...spec, fsType: 'block' },
        } as const
        await engine.mount({ ...request, name: 'one', target })
        const { path } = await engine.attach('one')
        const holder = await inNamespace('test -b "$1"', target)
        await engine.unmount('one', target)
        assert.is.not((await engine.attach('two', request.create)).path, path)
        await rejects('busy', /process \d+ \(\S+\) has it on .*a\/one; stop that first/, () => engine.remove('one'))
        await holder.end()
        for (const name of ['one', 'two']) assert.is((await engine.remove(name)).action, 'removed')
        assert.equal(await world.leftovers(), [])
      } finally {
        for (const child of children) child.kill('SIGKILL')
        children.clear()
        await world.close()
      }
    })

    check('a device that a process has open keeps its image, and is waited for where it is let go', async (parts) => {
      await parts.engine.unmount('one', parts.target)
      const { path } = await parts.engine.attach('one')
      const device = await open(path, 'r+')
      await isKept(parts, new RegExp(`process ${process.pid} \\(.*\\) has ${path} open; stop that first`))
      const removed = parts.engine.remove('one')
      await sleep(200)
      await device.close()
      assert.is((await removed).action, 'removed')
      assert.equal(await parts.world.leftovers(), [])
    })
  } else {
    const folder = (world: World) => join(world.parts.volumesDir, 'one')
    const holders: [string, string, RegExp][] = [
      ['has a file open in it', 'open my $f, ">>", "$ARGV[0]/file" or die', /has \S+\/one\/file open/],
      [
        'has a file open that was removed',
        'open our $f, ">", "$ARGV[0]/gone" or die; unlink "$ARGV[0]/gone"',
        /gone \(deleted\) open/,
      ],
      ['works in it', 'mkdir "$ARGV[0]/sub"; chdir "$ARGV[0]/sub" or die', /has \S+\/one\/sub open/],
      ['has its root in it', 'mkdir "$ARGV[0]/sub"; chroot "$ARGV[0]/sub" or die', /has \S+\/one\/sub open/],
    ]
    for (const [what, script, holder] of holders)
      check(`a directory is not removed while a process ${what}`, async (parts) => {
        await parts.engine.unmount('one', parts.target)
        const process = await inPerl(script.replace('my $f', 'our $f'), folder(parts.world))
        await isKept(parts, holder)
        await process.end()
        await isRemoved(parts)
      })

    check('a directory is not removed while a file in it is mapped, though not open', async (parts) => {
      await parts.engine.unmount('one', parts.target)
      const program = join(folder(parts.world), 'program')
      await run('cp', [(await run('which', ['cat'])).stdout.trim(), program])
      const process = spawn(program, { stdio: ['pipe', 'pipe', 'inherit'] })
      children.add(process)
      const ended = once(process, 'close')
      process.stdin.write('ready')
      await once(process.stdout, 'data')
      await isKept(parts, /has \S+\/one\/program mapped/)
      process.stdin.end()
      await ended
      await isRemoved(parts)
    })

    check('a directory is not removed while another namespace has something mounted in it', async (parts) => {
      await parts.engine.unmount('one', parts.target)
      const inside = join(folder(parts.world), 'inside')
      await mkdir(inside)
      const holder = await inNamespace('mount -t tmpfs tmpfs "$1"', inside)
      await isKept(parts, /has tmpfs mounted on \S+\/one\/inside/)
      await holder.end()
      await isRemoved(parts)
    })

    check('a mount in another namespace is found where the kernel left it out at the first look', async (parts) => {
      await parts.engine.unmount('one', parts.target)
      const path = folder(parts.world)
      const holder = await inNamespace('mount -t tmpfs tmpfs "$1"', path)
      const find = (kernel: string) => {
        const looked = new Set<string>()
        const read = (file: string) => {
          const all = readIfThere(file)
          if (looked.has(file)) return all
          looked.add(file)
          return all.replace(/^.* \S+\/one .*\n/gm, '')
        }
        return findHolder({ kind: 'directory', path }, { read, kernel })
      }
      assert.match((await find('5.4.0')) ?? '', /has tmpfs mounted on \S+\/one/)
      // Of a newer one the first look is believed.
      assert.is(await find('5.8.0'), undefined)
      await holder.end()
    })

    check('who uses only what is beside a directory does not keep it', async (parts) => {
      await parts.engine.unmount('one', parts.target)
      const beside = `${folder(parts.world)}-2`
      await mkdir(beside)
      const process = await inPerl('open our $f, ">", "$ARGV[0]/file" or die; chdir $ARGV[0]', beside)
      assert.is((await parts.engine.remove('one')).action, 'removed')
      await process.end()
    })
  }

  test.run()
}
