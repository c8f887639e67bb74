import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { copyFile, mkdir, open, readdir, readFile, rename, stat, unlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { isSea } from 'node:sea'
import { setTimeout as sleep } from 'node:timers/promises'
import { ClientError, request } from '../daemon/client.ts'
import { syncFolder } from '../files.ts'
import { type FlexSettings, formatSettings, settingsFile } from '../flex/settings.ts'
import { hasErrno, messageOf } from '../volume/errors.ts'
import { defineCommand } from './command.ts'
import { pluginDirFlag, socketFlag, toggle, waitFlag } from './flags.ts'

/** Where the kubelet looks for driver `volumes.k8s.elastic.co/elastic-local` in its plugin folder. */
const driverFolder = 'volumes.k8s.elastic.co~elastic-local'
const executableFile = 'elastic-local'
const temporarySuffix = '.tmp'

export const installCommand = defineCommand({
  name: 'install',
  group: 'Run',
  changes: true,
  summary: "Install this executable in the kubelet's plugin folder, as its FlexVolume driver",
  description:
    'The daemon must be running: without one, the driver would fail every call. The file is replaced atomically, even\n' +
    'while the kubelet runs it; nothing happens if this version is already installed with these settings.\n' +
    '\n' +
    'By default the driver only mounts and unmounts. With --attach it reports attach: true, and the kubelet\n' +
    'also calls attach, waitforattach, isattached, detach, mountdevice and unmountdevice. Choose before there are pods\n' +
    'with volumes: a kubelet does not expect a driver to change its mind under a mounted volume.',
  examples: [
    'elastic-local install',
    'elastic-local install --plugin-dir /home/kubernetes/flexvolume',
    'elastic-local install --attach --socket /run/elastic-local/socket',
  ],
  flags: {
    pluginDir: pluginDirFlag,
    attach: toggle('attach', 'install the driver in attach mode'),
    socket: socketFlag,
    wait: waitFlag,
  },
  async run({ flags, say, log }) {
    // The file that runs, even when its path has been given to another one meanwhile (proc(5)).
    const executable = isSea() ? '/proc/self/exe' : undefined
    const { action, path } = await install({ ...flags, executable }, log)
    say(action === 'installed' ? `Installed ${path}.` : `${path} is up to date: nothing to do.`)
  },
})

export interface InstallRequest extends FlexSettings {
  pluginDir: string
  /** The file to install; none when there is only a program's sources. */
  executable: string | undefined
  /** How long the daemon may take to come, in seconds. */
  wait?: number
}

/**
 * Puts the executable into `pluginDir` as the kubelet's driver. The kubelet probes the driver when a file whose name has
 * no leading dot changes (probe.go), so the settings are written first, and the executable again after them.
 */
export async function install(
  { pluginDir, executable, socket, attach, wait = 0 }: InstallRequest,
  log: { debug(message: string): void },
): Promise<{ action: 'installed' | 'unchanged'; path: string }> {
  if (executable === undefined)
    throw new Error('Cannot install as this runs from source: run "make build", then "dist/elastic-local install".')
  await checkDaemon(socket, performance.now() + wait * 1000)

  const folder = join(pluginDir, driverFolder)
  const path = join(folder, executableFile)
  const settingsPath = join(folder, settingsFile)
  const settings = formatSettings({ socket, attach })
  try {
    await checkPluginDir(pluginDir)
    // Not recursive: that takes a read-only filesystem for a missing folder.
    await mkdir(folder, { mode: 0o755 }).catch((error) => {
      if (!hasErrno(error, 'EEXIST')) throw error
    })
    await removeLeftovers(folder, log)
    if (await isInstalled({ executable, path, settings, settingsPath })) return { action: 'unchanged', path }

    await replaceFile(settingsPath, 0o644, (temporary) => writeFile(temporary, settings, { flag: 'wx' }))
    await replaceFile(path, 0o755, (temporary) =>
      copyFile(executable, temporary, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE),
    )
    await syncFolder(pluginDir)
  } catch (error) {
    throw new Error(`Cannot install into ${pluginDir}: ${await explain(error, executable)}`, { cause: error })
  }
  return { action: 'installed', path }
}

/** Longest wait for the daemon to say it is well. */
const healthTimeoutMs = 10_000

const retryMs = 200

async function checkDaemon(socketPath: string, deadline: number): Promise<void> {
  const advice = 'Nothing was installed.'
  let statusCode: number
  try {
    const signal = AbortSignal.timeout(healthTimeoutMs)
    statusCode = (await request({ socketPath, method: 'GET', path: '/healthz', signal })).statusCode
  } catch (error) {
    if (error instanceof ClientError && performance.now() < deadline) {
      await sleep(retryMs)
      return await checkDaemon(socketPath, deadline)
    }
    if (error instanceof ClientError) throw new Error(`${error.message} ${advice}`, { cause: error })
    throw error
  }
  if (statusCode !== 200)
    throw new Error(
      `Cannot install as the daemon on ${socketPath} is unhealthy: it answers HTTP ${statusCode}. ${advice}`,
    )
}

async function checkPluginDir(pluginDir: string): Promise<void> {
  const hint = "It must be the kubelet's --volume-plugin-dir: set --plugin-dir."
  try {
    if ((await stat(pluginDir)).isDirectory()) return
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw error
    throw new Error(`there is no such folder. ${hint}`)
  }
  throw new Error(`it is a file. ${hint}`)
}

/** Takes away what an installation that was killed left. One that runs still is told so by its failing rename. */
async function removeLeftovers(folder: string, log: { debug(message: string): void }): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(`.${executableFile}.`) || !name.endsWith(temporarySuffix)) continue
    log.debug(`Removing ${name}, which an interrupted installation left.`)
    await unlink(join(folder, name)).catch((error) => {
      if (!hasErrno(error, 'ENOENT')) throw error
    })
  }
}

async function isInstalled(wanted: {
  executable: string
  path: string
  settings: string
  settingsPath: string
}): Promise<boolean> {
  try {
    const [there, settingsThere] = await Promise.all([stat(wanted.path), stat(wanted.settingsPath)])
    return (
      there.isFile() &&
      (there.mode & 0o777) === 0o755 &&
      // An older executable means that the kubelet may not have been told of these settings.
      there.mtimeMs >= settingsThere.mtimeMs &&
      (await readFile(wanted.settingsPath, 'utf8')) === wanted.settings &&
      (await sameContent(wanted.executable, wanted.path))
    )
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ENOTDIR')) return false
    throw error
  }
}

async function sameContent(...paths: readonly [string, string]): Promise<boolean> {
  const chunkBytes = 1 << 20
  await using left = await open(paths[0])
  await using right = await open(paths[1])
  if ((await left.stat()).size !== (await right.stat()).size) return false
  const buffers = [Buffer.alloc(chunkBytes), Buffer.alloc(chunkBytes)] as const
  for (let position = 0; ; position += chunkBytes) {
    const [a, b] = await Promise.all([
      left.read(buffers[0], 0, chunkBytes, position),
      right.read(buffers[1], 0, chunkBytes, position),
    ])
    if (a.bytesRead !== b.bytesRead) return false
    if (a.bytesRead === 0) return true
    if (!buffers[0].subarray(0, a.bytesRead).equals(buffers[1].subarray(0, b.bytesRead))) return false
  }
}

/**
 * Puts a file in the place of `path`, whole and on the disk when the promise resolves; `write` makes it under another
 * name, which nobody else uses, so that two installations at once do not write into one file.
 */
async function replaceFile(path: string, mode: number, write: (temporary: string) => Promise<void>): Promise<void> {
  const temporary = join(dirname(path), `.${executableFile}.${randomBytes(6).toString('hex')}${temporarySuffix}`)
  try {
    await write(temporary)
    await using file = await open(temporary)
    await file.chmod(mode)
    await file.sync()
    await rename(temporary, path)
  } catch (error) {
    await unlink(temporary).catch(() => {})
    throw error
  }
  await syncFolder(dirname(path))
}

async function explain(error: unknown, executable: string): Promise<string> {
  if (hasErrno(error, 'ENOSPC', 'EDQUOT')) {
    const { size } = await stat(executable)
    return `the disk is full. It needs ${Math.ceil(size / 1e6)} MB. What is installed there stays as it was.`
  }
  if (hasErrno(error, 'EACCES', 'EPERM')) return 'this user may not write there. Run it as root.'
  if (hasErrno(error, 'EROFS')) return 'its filesystem is read-only. Choose another folder for the kubelet and here.'
  if (hasErrno(error, 'ENOTDIR')) return `${driverFolder} there must be a folder: it is a file. Remove it.`
  if (hasErrno(error, 'EISDIR')) return `${executableFile} there must be a file: it is a folder. Remove it.`
  if (hasErrno(error, 'ENOENT') && messageOf(error).includes(temporarySuffix))
    return 'another installation ran at the same time. Run it again.'
  return messageOf(error)
}
