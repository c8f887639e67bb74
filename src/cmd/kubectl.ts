import { formatFindings } from '../doctor/doctor.ts'
import { formatChains } from '../kubectl/chains.ts'
import { formatNodes, formatNotRead, formatPools, formatVolumes } from '../kubectl/tables.ts'
import { examineCluster } from '../overview/examine.ts'
import { explain, type Question } from '../overview/explain.ts'
import type { ClusterFacts } from '../overview/facts.ts'
import { buildOverview } from '../overview/overview.ts'
import type { Overview } from '../overview/records.ts'
import { formatDocument } from '../text/document.ts'
import type { Screen } from '../text/screen.ts'
import { VolumeError } from '../volume/errors.ts'
import { type Call, type Command, defineCommand } from './command.ts'
import { type FlagValues, kubectlFlags, kubectlNamespaceFlag, outputFlag, toggle } from './flags.ts'
import { moveCommands } from './move.ts'
import { UsageError } from './usage-error.ts'
import { versionCommand } from './version.ts'
import { openScreen } from './visit.ts'

const group = 'Look into volumes'
const tableFlag = outputFlag('table', 'wide', 'json', 'yaml')

/** Where what concerns nodes is said. */
const nodeEvents = 'default'

const volumesCommand = defineCommand({
  name: 'volumes list',
  aliases: ['volumes'],
  group,
  summary: 'List claims and their volumes: where they are, who uses them, and what is wrong',
  description:
    'Of the namespace of the context, or of -n; with -A of all, and then also volumes without a claim.\n' +
    'STATE: pending (no PersistentVolume yet), making (not on its node yet), ready, growing, removing, released (kept\n' +
    'without a claim), lost (its data or its PersistentVolume is gone), orphaned (on its node without a PersistentVolume).',
  examples: ['kubectl elastic_local volumes', 'kubectl elastic_local volumes -A -o wide'],
  flags: {
    ...kubectlFlags,
    namespace: kubectlNamespaceFlag,
    allNamespaces: toggle('all-namespaces', 'of all namespaces, and what has no claim', 'A'),
    output: tableFlag,
  },
  async run(call) {
    const { namespace, allNamespaces } = call.flags
    const { screen, overview, within } = await look(call, allNamespaces ? undefined : (own) => namespace ?? own)
    const volumes = overview.volumes.filter(({ claim }) => within === undefined || claim?.namespace === within)
    if (printDocument(call.flags.output, screen, overview, { volumes })) return
    if (volumes.length === 0)
      screen.tell(
        within === undefined ? 'There are no volumes.' : `There are no volumes in namespace ${within}; -A shows all.`,
      )
    else screen.print(formatVolumes(volumes, lookOf(call, screen, overview), within === undefined))
  },
})

const poolsCommand = defineCommand({
  name: 'pools',
  group,
  summary: "Show each node's pool: its size, what is promised, and what is free",
  description:
    'PROMISED is what claims have, whether their volumes are made or not; FREE is what new claims can have. What a thin\n' +
    'pool has written, its node knows: "elastic-local pools" there.',
  examples: ['kubectl elastic_local pools', 'kubectl elastic_local pools -o json | jq -r ".pools[].freeBytes"'],
  flags: { ...kubectlFlags, output: tableFlag },
  async run(call) {
    const { screen, overview } = await look(call, () => nodeEvents)
    const { pools } = overview
    if (printDocument(call.flags.output, screen, overview, { pools })) return
    if (pools.length === 0) screen.tell('There are no pools: no daemon has said what its node has.')
    else screen.print(formatPools(pools, lookOf(call, screen, overview)))
  },
})

const nodesCommand = defineCommand({
  name: 'nodes',
  group,
  summary: 'Show each node: whether it is there, how its daemon does, and how many volumes it has',
  examples: ['kubectl elastic_local nodes', 'kubectl elastic_local nodes -o wide'],
  flags: { ...kubectlFlags, output: tableFlag },
  async run(call) {
    const { screen, overview } = await look(call, () => nodeEvents)
    const { nodes } = overview
    if (printDocument(call.flags.output, screen, overview, { nodes })) return
    screen.print(formatNodes(nodes, lookOf(call, screen, overview)))
  },
})

const doctorCommand = defineCommand({
  name: 'doctor',
  group,
  summary: 'Check the whole cluster, and say what to do',
  description:
    'Exits with 1 when something fails; a warning is no failure. What only a node can see, "elastic-local doctor" there\n' +
    'says.',
  examples: ['kubectl elastic_local doctor'],
  flags: { ...kubectlFlags, output: outputFlag('table', 'json', 'yaml') },
  async run(call) {
    const { screen, facts, overview } = await look(call, undefined)
    const findings = examineCluster(facts, overview)
    const { output } = call.flags
    if (output === 'json' || output === 'yaml') screen.print(formatDocument(output, { findings }))
    else screen.print(formatFindings(findings, screen))
    return findings.some(({ status }) => status === 'fail') ? 1 : 0
  },
})

const explainCommand = defineCommand({
  name: 'explain',
  group,
  args: '<claim|pod|volume> [name]',
  summary: 'Show how far a claim, or the claims of a pod, have come, why not further, and what to do',
  description:
    'The name alone, or with its kind as kubectl has it: pvc/data, pod/web-0, pv/pvc-…. A claim goes by a chain: claim,\n' +
    'class, scheduling, reservation of room, PersistentVolume, node, volume, filesystem, mount, pod. Each link that holds\n' +
    'has a tick; the first that does not says why. Exits with 1 when one fails; waiting is no failure.',
  examples: [
    'kubectl elastic_local explain data',
    'kubectl elastic_local explain pod/web-0 -n shop',
    'kubectl elastic_local explain pv/pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11',
  ],
  flags: { ...kubectlFlags, namespace: kubectlNamespaceFlag, output: outputFlag('table', 'json', 'yaml') },
  async run(call) {
    const question = parseQuestion(call.args)
    const found = await look(call, (own) => call.flags.namespace ?? own)
    let { facts } = found
    // A PersistentVolume says itself in which namespace its claim is.
    const elsewhere = facts.volumes.get(question.name)?.claim?.namespace
    if (question.kind !== 'pod' && question.kind !== 'claim' && elsewhere !== undefined && elsewhere !== found.within)
      ({ facts } = await look(call, () => elsewhere))
    const { screen, overview, within = '' } = found
    const chains = explainOrRefuse(() => explain(facts, { ...question, namespace: within }))
    const isFailed = chains.some(({ links }) => links.some(({ status }) => status === 'fail'))
    if (!printDocument(call.flags.output, screen, overview, { chains })) {
      if (chains.length === 0) screen.tell(`Pod ${within}/${question.name} has no volumes of ours.`)
      else screen.print(formatChains(chains, screen))
    }
    return isFailed ? 1 : 0
  },
})

/** All commands of the plugin, in the order of the help. */
export const kubectlCommands: readonly Command[] = [
  explainCommand,
  volumesCommand,
  ...moveCommands,
  poolsCommand,
  nodesCommand,
  doctorCommand,
  versionCommand,
]

type ClusterCall = { flags: FlagValues<typeof kubectlFlags> } & Pick<Call, 'say'>

/** Reads the cluster: claims and pods of the namespace that `choose` gives, told the context's own, or of all. */
async function look(
  call: ClusterCall,
  choose: ((own: string) => string) | undefined,
): Promise<{ screen: Screen; facts: ClusterFacts; overview: Overview; within: string | undefined }> {
  const { ApiClient, findKubeConfig } = await import('../k8s/client/api.ts')
  const { readCluster } = await import('../overview/read.ts')
  const { kubeconfig, context, systemNamespace: namespace } = call.flags
  const screen = openScreen(call)
  const config = findKubeConfig(kubeconfig, { context, asKubectl: true })
  const within = choose?.(config.getContextObject(config.getCurrentContext())?.namespace || 'default')
  const scope = { namespace, ...(within === undefined ? {} : { within }) }
  const facts = await screen.progress('Looking at the cluster', () =>
    readCluster(new ApiClient(config), scope, new Date()),
  )
  return { screen, facts, overview: buildOverview(facts), within }
}

/** Prints what a program may read, if that is wanted; for a person, tells what was not looked at. */
function printDocument(output: string, screen: Screen, overview: Overview, document: object): boolean {
  if (output === 'json' || output === 'yaml') {
    screen.print(formatDocument(output, { ...document, notRead: overview.notRead }))
    return true
  }
  for (const line of formatNotRead(overview)) screen.tell(line)
  return false
}

function lookOf({ flags }: { flags: { output: string } }, { paint }: Screen, { at }: Overview) {
  return { paint, wide: flags.output === 'wide', now: at }
}

const kinds: Record<string, NonNullable<Question['kind']>> = {
  pod: 'pod',
  pods: 'pod',
  po: 'pod',
  claim: 'claim',
  pvc: 'claim',
  persistentvolumeclaim: 'claim',
  persistentvolumeclaims: 'claim',
  volume: 'volume',
  pv: 'volume',
  persistentvolume: 'volume',
  persistentvolumes: 'volume',
}

/** `pod/web-0`, `pod web-0` or `web-0`. Throws `UsageError`. */
function parseQuestion(args: readonly string[]): Omit<Question, 'namespace'> {
  const [first = '', second] = args.length > 1 ? args : (args[0] ?? '').split('/')
  if (second === undefined) return { name: first }
  const kind = Object.hasOwn(kinds, first) ? kinds[first] : undefined
  if (!kind)
    throw new UsageError(`Cannot explain ${JSON.stringify(first)} as it must be pvc, pod or pv: say pvc/${second}.`)
  return { kind, name: second }
}

function explainOrRefuse<T>(work: () => T): T {
  try {
    return work()
  } catch (error) {
    if (error instanceof VolumeError && error.code === 'invalid') throw new UsageError(error.message, { cause: error })
    throw error
  }
}
