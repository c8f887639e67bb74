import { readFileSync } from 'node:fs'

/** What `install` decided for the flex driver beside whose executable the file stands. */
export interface FlexSettings {
  /** The daemon's socket. */
  socket: string
  /** Option 1 of the FlexVolume specification: the kubelet attaches, and mounts a device, before it mounts. */
  attach: boolean
}

export const settingsFile = '.elastic-local.json'

export const defaultSettings: FlexSettings = { socket: '/var/run/elastic-local/socket', attach: false }

/** The settings in the file `path`, or the defaults when there is none. Throws an `Error` that names the file. */
export function readSettings(path: string): FlexSettings {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return defaultSettings
    throw new Error(`Cannot read ${path}: ${(error as Error).message}`)
  }
  const wrong = (what: string) =>
    new Error(`Cannot use ${path} as ${what}. Remove it and run "elastic-local install" again.`)
  let found: unknown
  try {
    found = JSON.parse(text)
  } catch {
    throw wrong('it must be JSON')
  }
  if (typeof found !== 'object' || found === null || Array.isArray(found)) throw wrong('it must be a JSON object')
  const { socket, attach } = { ...defaultSettings, ...found }
  if (typeof socket !== 'string' || !socket.startsWith('/') || socket.includes('\0'))
    throw wrong('"socket" must be an absolute path')
  if (typeof attach !== 'boolean') throw wrong('"attach" must be true or false')
  return { socket, attach }
}

/** The text of a settings file, which `readSettings` understands. */
export function formatSettings({ socket, attach }: FlexSettings): string {
  return `${JSON.stringify({ socket, attach })}\n`
}
