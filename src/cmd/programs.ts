import type { Program } from './command.ts'
import { commands } from './commands.ts'
import { kubectlCommands } from './kubectl.ts'

export const elasticLocal: Program = {
  name: 'elastic-local',
  about: 'local volumes for Kubernetes, on the disks of the node where the pod runs.',
  notes: [
    'The kubelet starts the same executable as its FlexVolume driver: from a folder whose name ends in ~elastic-local, ' +
      'or with one of its own words first (init, mount, unmount, …), it answers with one line of JSON.',
    'Under the name kubectl-elastic_local it is a plugin of kubectl, for the whole cluster (docs/kubectl.md).',
  ],
  commands,
}

export const kubectlPlugin: Program = {
  name: 'kubectl elastic_local',
  about: 'local volumes of a whole cluster, and why one is missing. Read-only, except for "volumes move-…".',
  notes: [
    'It is elastic-local under the name kubectl-elastic_local. The rights it needs, and the JSON of -o json: docs/kubectl.md.',
  ],
  commands: kubectlCommands,
}

/** The word, first on the line, that asks for what could come next. */
export const completeWord = '__complete'
const completionName = 'kubectl_complete-elastic_local'

/** What this executable is under that name. */
export function findProgram(called: string): Program {
  return ['kubectl-elastic_local', completionName].includes(called) ? kubectlPlugin : elasticLocal
}

/** Whether a shell asks, by itself or through kubectl, which has an executable of its own for that. */
export function isCompletion(called: string, args: readonly string[]): boolean {
  return called === completionName || args[0] === completeWord
}
