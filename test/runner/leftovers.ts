/** What a job of tests left behind: what lies in its scratch folder, and what holds on to it. */
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { run } from '../../src/run.ts'

/** Something that should be gone, in words, and what makes it go. */
export interface Leftover {
  words: string
  remove(): Promise<unknown>
}

/**
 * Finds what is left of the job whose scratch folders, its `TMPDIR` or what it takes for that, those are: processes that
 * have one in their environment (and with them the namespaces that they hold), mounts, loop devices and files; in the
 * order in which they can be taken away.
 */
export function findLeftovers(folders: readonly string[]): Leftover[] {
  return [processesOf, mountsBelow, loopsOf, filesIn].flatMap((find) => folders.flatMap(find))
}

/** A file of proc(5) or sysfs(5); empty when what it tells of has gone. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}

function processesOf(folder: string): Leftover[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => `\0${read(`/proc/${pid}/environ`)}`.includes(`\0TMPDIR=${folder}\0`))
    .map((pid) => ({
      words: `process ${pid}: ${read(`/proc/${pid}/cmdline`).replaceAll('\0', ' ').trim().slice(0, 200)}`,
      remove: async () => {
        try {
          process.kill(Number(pid), 'SIGKILL')
        } catch {
          // It ended by itself.
        }
      },
    }))
}

function mountsBelow(folder: string): Leftover[] {
  const targets = read('/proc/self/mountinfo')
    .split('\n')
    .flatMap((line) => line.split(' ')[4] ?? [])
    .filter((target) => target.startsWith(`${folder}/`))
  return targets.reverse().map((target) => ({ words: `mount ${target}`, remove: () => run('umount', ['--', target]) }))
}

function loopsOf(folder: string): Leftover[] {
  return readdirSync('/sys/block')
    .map((name) => ({ device: `/dev/${name}`, image: read(`/sys/block/${name}/loop/backing_file`).trim() }))
    .filter(({ image }) => image.startsWith(`${folder}/`))
    .map(({ device, image }) => ({
      words: `loop device ${device} of ${image}`,
      remove: () => run('losetup', ['--detach', device]),
    }))
}

function filesIn(folder: string): Leftover[] {
  return readdirSync(folder).map((name) => ({
    words: `scratch ${join(folder, name)}`,
    remove: async () => rmSync(join(folder, name), { recursive: true, force: true }),
  }))
}
