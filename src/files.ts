import { mkdir, open, readdir, rename, unlink } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import AsyncLock from 'async-lock'
import { hasErrno } from './volume/errors.ts'

const temporaryEnd = '.tmp'
/** Of each path, whoever writes it: two at a time would share the temporary file. */
const writers = new AsyncLock({ maxPending: Number.POSITIVE_INFINITY })

/**
 * Puts `content` into the file `path`, whole or not at all, and on the disk when the promise resolves: a dot-named
 * temporary file, fsync, rename, fsync of the folder (fsync(2)). Of several that come at once, the last one's stays.
 */
export async function replaceFile(path: string, content: string | Buffer, mode = 0o600): Promise<void> {
  await writers.acquire(resolve(path), async () => {
    const temporary = join(dirname(path), `.${basename(path)}${temporaryEnd}`)
    await unlinkIfThere(temporary)
    try {
      await writeSynced(temporary, content, mode)
      await rename(temporary, path)
    } catch (error) {
      await unlink(temporary).catch(() => {})
      throw error
    }
    await syncFolder(dirname(path))
  })
}

async function writeSynced(path: string, content: string | Buffer, mode: number): Promise<void> {
  const file = await open(path, 'wx', mode)
  try {
    await file.writeFile(content)
    await file.chmod(mode)
    await file.sync()
  } finally {
    await file.close()
  }
}

/**
 * Makes a folder and those above it; nothing to do when it is there. Unlike mkdir() with `recursive`, it does not take a
 * read-only filesystem for a missing folder.
 */
export async function makeFolders(path: string, mode: number): Promise<void> {
  try {
    await mkdir(path, { mode })
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return
    if (!hasErrno(error, 'ENOENT')) throw error
    await makeFolders(dirname(path), mode)
    await mkdir(path, { mode }).catch((error) => {
      if (!hasErrno(error, 'EEXIST')) throw error
    })
  }
}

/** Removes a file, and says so to the disk; nothing to do when there is none. */
export async function removeFile(path: string): Promise<void> {
  await writers.acquire(resolve(path), async () => {
    if (await unlinkIfThere(path)) await syncFolder(dirname(path))
  })
}

async function unlinkIfThere(path: string): Promise<boolean> {
  try {
    await unlink(path)
    return true
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false
    throw error
  }
}

/** Makes what was created, renamed or removed in the folder survive a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Removes what `replaceFile` left in the folders of `folder` when it was killed. For the only writer there. */
export async function removeTemporaries(folder: string): Promise<void> {
  for (const path of await listFolder(folder))
    for (const file of await listFolder(path))
      if (basename(file).startsWith('.') && file.endsWith(temporaryEnd)) await removeFile(file)
}

/** The paths of what is in a folder; of what is none, nothing. */
async function listFolder(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).map((file) => join(folder, file))
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return []
    throw error
  }
}
