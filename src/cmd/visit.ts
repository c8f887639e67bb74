import { existsSync } from 'node:fs'
import { hostname } from 'node:os'
import { ClientError } from '../daemon/client.ts'
import { type Lock, lockFiles, volumesLockPath } from '../daemon/lock.ts'
import type { ExitCode, Visit } from '../inspect/actions.ts'
import { buildDaemonKeeper, buildEngineKeeper, type Keeper } from '../inspect/keeper.ts'
import { messageOf, VolumeError } from '../volume/errors.ts'
import type { Call } from './command.ts'
import { type FlagValues, machineFlags, onlyWith, socketFlag, toggle } from './flags.ts'
import { isPod, openMachine } from './machine.ts'

/** Flags of the commands that look into volumes. */
export const visitFlags = {
  socket: { ...socketFlag, notWith: 'offline' },
  offline: toggle('offline', "work on the disks directly, without a daemon; the flags below must be the daemon's"),
  ...onlyWith('offline', machineFlags),
}
type VisitFlags = FlagValues<typeof visitFlags>

type VisitCall<O> = { flags: VisitFlags & { output: O } } & Pick<Call, 'screen' | 'log'>

/** What a command works with whose output is of the kinds that it has. */
type VisitOf<O> = Omit<Visit, 'output'> & { output: O }

/** Lets `act` ask the daemon or, offline, this machine. `changes`: whether it does more than look. */
export async function withKeeper<O>(
  call: VisitCall<O>,
  changes: boolean,
  act: (visit: VisitOf<O>) => Promise<ExitCode>,
): Promise<number> {
  const { screen } = call
  const { output, offline, socket } = call.flags
  const visit = async (keeper: Keeper) => await act({ keeper, screen, output, now: () => new Date() })
  // Half a change is worse than a late one.
  const onSignal = () => {
    if (offline) return screen.tell('\nFinishing this first.')
    screen.tell('\nNo longer waiting. The daemon finishes what it has started.')
    process.exit(interruptedExitCode)
  }
  if (changes) process.on('SIGINT', onSignal)
  try {
    return offline
      ? await withMachine(call, changes, visit)
      : await visit(buildDaemonKeeper(socket, { user: ownUser() }))
  } catch (error) {
    throw explain(error)
  } finally {
    process.off('SIGINT', onSignal)
  }
}

/** Who runs this, as far as that is known: who became root by sudo(8) is named as well. */
export function ownUser(): string {
  const { SUDO_USER, USER } = process.env
  const name = SUDO_USER ?? USER ?? 'somebody'
  return `${name}${isPod() ? ` in pod ${hostname()}` : ''} (uid ${process.getuid?.()})`
}

/** As shells have it for a program that SIGINT ended. */
const interruptedExitCode = 130

async function withMachine(
  { flags, log }: VisitCall<unknown>,
  changes: boolean,
  visit: (keeper: Keeper) => Promise<ExitCode>,
): Promise<ExitCode> {
  if (process.getuid?.() !== 0)
    throw new Error('Cannot read the disks directly as the user must be root: run it with sudo.')
  if (flags.driverKind !== 'LVM' && !existsSync(flags.volumesDir))
    throw new Error(
      `Cannot read ${flags.volumesDir} as it does not exist: name the daemon's folder with --volumes-dir.`,
    )
  const lock = changes ? await lockVolumes(flags.volumesDir) : undefined
  try {
    const quiet = { info: (message: string) => log.debug(message), warn: (message: string) => log.warn(message) }
    const engine = await openMachine(flags, quiet, lock && { lock })
    try {
      await engine.start()
      return await visit(buildEngineKeeper(engine))
    } finally {
      await engine.stop()
    }
  } finally {
    await lock?.release()
  }
}

/** Keeps a daemon from the volumes while they are changed. */
async function lockVolumes(volumesDir: string): Promise<Lock> {
  try {
    return await lockFiles([volumesLockPath(volumesDir)])
  } catch (error) {
    if (error instanceof VolumeError && error.code === 'busy')
      throw new Error(
        `Cannot change volumes in ${volumesDir} offline as a daemon, or another command, is using them; leave out --offline to ask the daemon. ${error.message}`,
      )
    throw error
  }
}

/** The same failure for the person who asked: a lost daemon has a way out. */
function explain(error: unknown): unknown {
  if (error instanceof ClientError && error.code !== 'forbidden')
    return new Error(
      `${messageOf(error)}\n"elastic-local doctor" looks for the cause; --offline reads the disks without a daemon.`,
      { cause: error },
    )
  return error
}
