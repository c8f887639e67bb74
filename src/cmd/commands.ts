import type { Command } from './command.ts'
import { completionCommand } from './completion/completion.ts'
import { createVgCommand } from './create-vg.ts'
import { doctorCommand } from './doctor.ts'
import { healthzCommand, readyzCommand } from './healthz.ts'
import { installCommand } from './install.ts'
import { logLevelCommand } from './log-level.ts'
import { poolsCommand } from './pools.ts'
import { daemonCommand } from './roles/daemon.ts'
import { provisionerCommand } from './roles/provisioner.ts'
import { versionCommand } from './version.ts'
import {
  volumesAdoptCommand,
  volumesGrowCommand,
  volumesListCommand,
  volumesRemoveCommand,
  volumesShowCommand,
} from './volumes.ts'

/** All commands, in the order of the help. */
export const commands: readonly Command[] = [
  daemonCommand,
  provisionerCommand,
  installCommand,
  createVgCommand,
  volumesListCommand,
  volumesShowCommand,
  volumesGrowCommand,
  volumesAdoptCommand,
  volumesRemoveCommand,
  poolsCommand,
  doctorCommand,
  healthzCommand,
  readyzCommand,
  logLevelCommand,
  versionCommand,
  completionCommand,
]
