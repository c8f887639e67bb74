import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { rejects } from '../../test/contract.ts'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import { run } from '../run.ts'
import { type Lock, lockFiles, volumesLockPath } from './lock.ts'

const test = suite('lock')

/** Runs `work` with a function that locks; what is still locked afterwards is released. */
const withLocks = (work: (folder: string, lock: (...names: string[]) => Promise<Lock>) => Promise<void>) => () =>
  withScratch(async (folder) => {
    const held: Lock[] = []
    try {
      await work(folder, async (...names) => {
        const lock = await lockFiles(names.map((name) => join(folder, name)))
        held.push(lock)
        return lock
      })
    } finally {
      for (const lock of held) await lock.release()
    }
  })

test(
  'a file has one holder at a time',
  withLocks(async (folder, lock) => {
    const first = await lock('a')
    await rejects(
      'busy',
      new RegExp(`^Cannot lock ${join(folder, 'a')}: process ${process.pid} \\(.+\\) holds it\\.$`),
      () => lock('a'),
    )
    await first.release()
    await first.release()
    await lock('a')
    await lock('b')
  }),
)

test(
  'several files are locked all or none',
  withLocks(async (_, lock) => {
    const held = await lock('b')
    await rejects('busy', /^Cannot lock .*b: process/, () => lock('a', 'b', 'c'))
    await held.release()
    const all = await lock('a', 'b', 'c')
    for (const name of ['a', 'b', 'c']) await rejects('busy', /process/, () => lock(name))
    await all.release()
    await lock('c', 'b', 'a')
  }),
)

test(
  'what was given the lock keeps it when whoever took it is gone',
  withLocks(async (folder, lock) => {
    const held = await lock('a')
    const go = join(folder, 'go')
    const script = `while [ -d '${folder}' ] && [ ! -e '${go}' ]; do sleep 0.02; done`
    const command = run('sh', ['-c', script], { keepOpen: held.descriptors })
    await held.release()
    await rejects('busy', /process [0-9]+ \(sh -c while .*…\) holds it/, () => lock('a'))
    await writeFile(go, '')
    await command
    await lock('a')
  }),
)

test(
  'the folder of a lock is made, for root alone, and a file that is there is locked as it is',
  withLocks(async (folder, lock) => {
    await lock('new/folder/lock')
    assert.is((await stat(join(folder, 'new/folder'))).mode & 0o777, 0o700)
    await writeFile(join(folder, 'there'), 'left behind')
    await lock('there')
  }),
)

test(
  'a lock that cannot be is an error that names the file',
  withLocks(async (folder, lock) => {
    await writeFile(join(folder, 'file'), '')
    assert.match((await thrownBy(Error, () => lock('file/lock'))).message, join(folder, 'file'))
  }),
)

test(
  'a lock is free as soon as its holder is killed',
  withLocks(async (folder, lock) => {
    const path = join(folder, 'a')
    const script = `const { lockFiles } = await import(${JSON.stringify(join(import.meta.dirname, 'lock.ts'))})
await lockFiles([${JSON.stringify(path)}])
setInterval(() => {}, 1 << 30)
console.log('locked')`
    const args = ['--input-type=module', '-e', script]
    const holder = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    try {
      const ended = once(holder.stderr.resume(), 'close')
      const [said] = await once(holder.stdout, 'data')
      assert.is(String(said), 'locked\n')
      await rejects('busy', new RegExp(`process ${holder.pid} `), () => lock('a'))
      holder.kill('SIGKILL')
      // Its standard error is open for as long as anything that it started lives.
      await ended
      await lock('a')
    } finally {
      holder.kill('SIGKILL')
    }
  }),
)

test(
  'nothing but the end of this process takes the lock from it: no program has to live for that',
  withLocks(async (folder, lock) => {
    await lock('a', 'b')
    // As ps(1) looks, which a bare Debian has not: proc_pid_stat(5).
    const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
    const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')))
    assert.equal(
      stats.filter((text) => Number(/^.*\) \S (\d+) /s.exec(text)?.[1]) === process.pid),
      [],
    )
    for (const name of ['a', 'b']) await rejects('busy', /process/, () => lock(name))
    await rejects('busy', new RegExp(folder), () => lock('a'))
  }),
)

test('the lock of a volumes folder is in our own folder of it', () => {
  assert.is(volumesLockPath('/srv/volumes'), '/srv/volumes/.elastic-local/lock')
})

test.run()
