/** Control groups (cgroups(7)) of a test, in each hierarchy of the kernel's version 1, or the only one of version 2. */
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { poll } from './program.ts'

const root = '/sys/fs/cgroup'
const prefix = 'elastic-local-test-'
let count = 0

/** A name for groups of this process. */
export function nameCgroups(): string {
  return `${prefix}${process.pid}-${count++}`
}

/** Makes a group at the top of each hierarchy, and removes those of tests that were killed. */
export async function createCgroups(name: string): Promise<void> {
  for (const hierarchy of await findHierarchies()) {
    for (const entry of await readdir(hierarchy)) {
      const [pid] = entry.startsWith(prefix) ? entry.slice(prefix.length).split('-') : []
      // Another test may be removing it, too.
      if (pid !== undefined && !existsSync(`/proc/${pid}`)) await removeTree(join(hierarchy, entry)).catch(() => {})
    }
    const group = join(hierarchy, name)
    await mkdir(group)
    // In version 1, a new group has no processors and no memory. In version 2, the top has no such files.
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (existsSync(join(hierarchy, file))) await writeFile(join(group, file), await readFile(join(hierarchy, file)))
  }
}

/** Removes the groups of that name with all in them, when the last process there has ended, which must be about to. */
export async function removeCgroups(name: string): Promise<void> {
  for (const group of await findCgroups(name)) await poll(() => removeTree(group), 10_000, new AbortController().signal)
}

/** The folders of the groups of that name. */
export async function findCgroups(name: string): Promise<string[]> {
  return (await findHierarchies()).map((hierarchy) => join(hierarchy, name)).filter((group) => existsSync(group))
}

async function findHierarchies(): Promise<string[]> {
  if (existsSync(join(root, 'cgroup.procs'))) return [root]
  const entries = await readdir(root, { withFileTypes: true })
  return entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(root, name))
}

/** Whether all of it could be removed. */
async function removeTree(group: string): Promise<boolean> {
  const entries = await readdir(group, { withFileTypes: true })
  for (const entry of entries) if (entry.isDirectory() && !(await removeTree(join(group, entry.name)))) return false
  try {
    await rmdir(group)
    return true
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EBUSY') return false
    throw error
  }
}
