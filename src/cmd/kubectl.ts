import { formatFindings } from '../doctor/doctor.ts'
import type { Api } from '../k8s/client/api.ts'
import { formatChains } from '../kubectl/chains.ts'
import { select } from '../kubectl/select.ts'
import { formatNodes, formatNotRead, formatPools, formatVolumes } from '../kubectl/tables.ts'
import { examineCluster } from '../overview/examine.ts'
import { explain, type Question, workloads } from '../overview/explain.ts'
import type { ClusterFacts } from '../overview/facts.ts'
import { buildOverview } from '../overview/overview.ts'
import type { Overview } from '../overview/records.ts'
import { formatDocument, isDocumentFormat } from '../text/document.ts'
import { type Call, type Command, defineCommand } from './command.ts'
import { completeSubjects } from './completion/names.ts'
import { type FlagValues, flag, kubectlFlags, kubectlNamespaceFlag, oneOf, outputFlag, toggle } from './flags.ts'
import { listFlags, showListing } from './listing.ts'
import { adoptCommand, moveCommands } from './move.ts'
import { UsageError } from './usage-error.ts'
import { versionCommand } from './version.ts'

const group = 'Inspect volumes'

const nodesPath = '/api/v1/nodes'

/** Where what concerns nodes is said. */
const nodeEvents = 'default'

const volumesCommand = defineCommand({
  name: 'volumes list',
  aliases: ['volumes'],
  group,
  summary: 'List claims and their volumes: where they are, who uses them, and what is wrong',
  description:
    'In the namespace of the context, or of -n; with -A in all, and then also volumes without a claim.\n' +
    'STATE: pending (no PersistentVolume yet), making (not on its node yet), ready, growing, removing, released (kept\n' +
    'without a claim), lost (its data, its filesystem or its PersistentVolume is gone), stuck (it cannot be unmounted or\n' +
    'removed), failing, orphaned (on its node without a PersistentVolume).',
  examples: ['kubectl elastic_local volumes', 'kubectl elastic_local volumes -A -o wide'],
  flags: {
    ...kubectlFlags,
    namespace: kubectlNamespaceFlag,
    allNamespaces: toggle('all-namespaces', 'in all namespaces, and volumes without a claim', 'A'),
    selector: selectorFlag('claims'),
    ...listFlags,
  },
  run: async (call) =>
    await showListing(call, async () => {
      const { namespace, allNamespaces, selector } = call.flags
      const { api, overview, within } = await look(call, allNamespaces ? undefined : (own) => namespace ?? own)
      const path = `/api/v1${within === undefined ? '' : `/namespaces/${within}`}/persistentvolumeclaims`
      const isSelected = await select(api, path, selector)
      const records = overview.volumes.filter(
        ({ claim }) =>
          (within === undefined || claim?.namespace === within) &&
          (selector === undefined || (claim && isSelected(claim))),
      )
      return {
        ...beside(call, overview),
        kind: 'volumes',
        records,
        nameOf: ({ claim, name }) => (claim ? `persistentvolumeclaim/${claim.name}` : `persistentvolume/${name}`),
        format: (volumes, look, wide) =>
          formatVolumes(volumes, { now: overview.at, namespaces: within === undefined }, look, wide),
        none:
          within === undefined ? 'There are no volumes.' : `There are no volumes in namespace ${within}; -A shows all.`,
      }
    }),
})

const poolsCommand = defineCommand({
  name: 'pools',
  group,
  summary: "Show each node's pool: its size, what is allocated, and what is free",
  description:
    'ALLOCATED is what claims have, including volumes not created yet; FREE is what new claims can have. How much of a\n' +
    'thin pool is written, only its node knows: run "elastic-local pools" there.',
  examples: ['kubectl elastic_local pools', 'kubectl elastic_local pools -o json | jq -r ".pools[].freeBytes"'],
  flags: { ...kubectlFlags, selector: selectorFlag('nodes'), ...listFlags },
  run: async (call) =>
    await showListing(call, async () => {
      const { overview, beside, isSelected } = await lookAtNodes(call)
      return {
        ...beside,
        kind: 'pools',
        records: overview.pools.filter(({ node }) => isSelected({ name: node })),
        nameOf: ({ node, name }) => `${node}/${name}`,
        format: formatPools,
        none: 'There are no pools: no daemon has reported one.',
      }
    }),
})

const nodesCommand = defineCommand({
  name: 'nodes',
  group,
  summary: 'Show each node: its state, its daemon, and how many volumes it has',
  examples: ['kubectl elastic_local nodes', 'kubectl elastic_local nodes -o wide'],
  flags: { ...kubectlFlags, selector: selectorFlag('nodes'), ...listFlags },
  run: async (call) =>
    await showListing(call, async () => {
      const { overview, beside, isSelected } = await lookAtNodes(call)
      return {
        ...beside,
        kind: 'nodes',
        records: overview.nodes.filter(isSelected),
        nameOf: ({ name }) => `node/${name}`,
        format: formatNodes,
        none: 'There are no nodes.',
      }
    }),
})

const doctorCommand = defineCommand({
  name: 'doctor',
  group,
  summary: 'Check the whole cluster, and say what to do',
  description:
    'Exits with 1 if a check fails; a warning is not a failure. "elastic-local doctor" on a node checks what only the node\n' +
    'can see.',
  examples: ['kubectl elastic_local doctor'],
  flags: { ...kubectlFlags, output: outputFlag('table', 'json', 'yaml', 'jsonpath=') },
  async run(call) {
    const { screen } = call
    const { facts, overview } = await look(call, undefined)
    const findings = examineCluster(facts, overview)
    const { output } = call.flags
    if (isDocumentFormat(output)) screen.print(formatDocument(output, { findings }))
    else screen.print(formatFindings(findings, screen))
    return findings.some(({ status }) => status === 'fail') ? 1 : 0
  },
})

const explainCommand = defineCommand({
  name: 'explain',
  group,
  args: '<claim|pod|volume|workload> [name]',
  completeArgs: completeSubjects,
  summary: 'Show how far a claim, or the claims of a pod, got, what stopped it, and what to do',
  description:
    'The name alone, or with its kind as kubectl has it: pvc/data, pod/web-0, pv/pvc-…, and deployment/web or\n' +
    'statefulset/db for the claims of all its pods. A claim is followed link by link: claim, class, scheduling,\n' +
    'reservation of room, PersistentVolume, node, volume, filesystem, registration (of CSI), mount, pod. A link that holds\n' +
    'has a tick; the first that does not says why. Exits with 1 if one fails; waiting is not a failure.',
  examples: [
    'kubectl elastic_local explain data',
    'kubectl elastic_local explain pod/web-0 -n shop',
    'kubectl elastic_local explain pv/pvc-0b7c1c2e-4f0a-4f3b-9a53-2f6c1d5a7e11',
  ],
  flags: { ...kubectlFlags, namespace: kubectlNamespaceFlag, output: outputFlag('table', 'json', 'yaml', 'jsonpath=') },
  async run(call) {
    const question = parseQuestion(call.args)
    const found = await look(call, (own) => call.flags.namespace ?? own)
    let { facts } = found
    // A PersistentVolume says itself in which namespace its claim is.
    const its = facts.volumes.get(question.name)?.claim?.namespace
    if ((!question.kind || question.kind === 'volume') && its !== undefined && its !== found.within)
      ({ facts } = await look(call, () => its))
    const { overview, within = '' } = found
    const { screen } = call
    const { output } = call.flags
    const chains = explain(facts, { ...question, namespace: within })
    const isFailed = chains.some(({ links }) => links.some(({ status }) => status === 'fail'))
    const { more } = beside(call, overview)
    if (isDocumentFormat(output)) screen.print(formatDocument(output, { chains, ...more }))
    else if (chains.length === 0)
      screen.tell(`There are no volumes of ours in ${question.kind ?? 'pod'} ${within}/${question.name}.`)
    else screen.print(formatChains(chains, screen))
    return isFailed ? 1 : 0
  },
})

/** Looks at what concerns nodes, and at which of them are asked for. */
async function lookAtNodes(call: ClusterCall & { flags: { selector: string | undefined; output: string } }) {
  const { api, overview } = await look(call, () => nodeEvents)
  const isSelected = await select(api, nodesPath, call.flags.selector)
  return { overview, isSelected, beside: beside(call, overview) }
}

function selectorFlag(whose: string) {
  return flag(
    { mustBe: 'a selector, such as app=web,tier!=test', parse: (text: string) => text || undefined },
    { name: 'selector', short: 'l', value: '<selector>', defaultHelp: 'all', help: `by the labels of ${whose}` },
  )
}

/** All commands of the plugin, in the order of the help. */
export const kubectlCommands: readonly Command[] = [
  explainCommand,
  volumesCommand,
  ...moveCommands,
  adoptCommand,
  poolsCommand,
  nodesCommand,
  doctorCommand,
  versionCommand,
]

type ClusterCall = { flags: FlagValues<typeof kubectlFlags> } & Pick<Call, 'screen'>

/** Reads the cluster: claims and pods of the namespace that `choose` gives, told the context's own, or of all. */
async function look(
  call: ClusterCall,
  choose: ((own: string) => string) | undefined,
): Promise<{ api: Api; facts: ClusterFacts; overview: Overview; within: string | undefined }> {
  const { ApiClient, findKubeConfig } = await import('../k8s/client/api.ts')
  const { readCluster } = await import('../overview/read.ts')
  const { kubeconfig, context, systemNamespace: namespace } = call.flags
  const config = findKubeConfig(kubeconfig, { context, asKubectl: true })
  const within = choose?.(config.getContextObject(config.getCurrentContext())?.namespace || 'default')
  const scope = { namespace, ...(within === undefined ? {} : { within }) }
  const api = new ApiClient(config)
  const facts = await call.screen.progress('Reading the cluster', () => readCluster(api, scope, new Date()))
  return { api, facts, overview: buildOverview(facts), within }
}

/** What was not checked: for a program it is in the document, and a person is told. */
function beside({ screen, flags }: { flags: { output: string } } & Pick<Call, 'screen'>, overview: Overview) {
  if (!isDocumentFormat(flags.output)) for (const line of formatNotRead(overview)) screen.tell(line)
  return { more: { notRead: overview.notRead } }
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
  ...Object.fromEntries(workloads.flatMap((kind) => [kind, `${kind}s`].map((name) => [name, kind]))),
  deploy: 'deployment',
  sts: 'statefulset',
  ds: 'daemonset',
  rs: 'replicaset',
}

/** What else people ask of: what shows it. */
const elsewhere: Record<string, string> = Object.fromEntries(
  (
    [
      [['node', 'nodes', 'no'], 'nodes'],
      [['pool', 'pools'], 'pools'],
      [['storageclass', 'storageclasses', 'sc'], 'doctor'],
    ] as const
  ).flatMap(([names, command]) => names.map((name) => [name, command])),
)

/** `pod/web-0`, `pod web-0`, `deployment.apps/web` or `web-0`. Throws `UsageError`. */
function parseQuestion(args: readonly string[]): Omit<Question, 'namespace'> {
  const [first = '', second] = args.length > 1 ? args : (args[0] ?? '').split('/')
  if (second === undefined) return { name: first }
  // As "kubectl get -o name" has it, with its group.
  const [asked = ''] = first.toLowerCase().split('.')
  const kind = Object.hasOwn(kinds, asked) ? kinds[asked] : undefined
  if (kind) return { kind, name: second }
  const better = Object.hasOwn(elsewhere, asked)
    ? `"kubectl elastic_local ${elsewhere[asked]}" shows it.`
    : 'Name the claim, pod or volume that it is about.'
  throw new UsageError(
    `Cannot explain ${JSON.stringify(first)} as it must be pvc, pod, pv, ${oneOf(...workloads).mustBe}. ${better}`,
  )
}
