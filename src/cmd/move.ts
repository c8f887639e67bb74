import type { FrontName } from '../k8s/fronts/front.ts'
import type { ProjectName } from '../k8s/model/origin.ts'
import type { Movable, Mover } from '../k8s/moves/mover.ts'
import { messageOf } from '../volume/errors.ts'
import { type Call, type Command, defineCommand } from './command.ts'
import { adoptFromFlags, kubectlFlags, kubectlNamespaceFlag, moveFlags } from './flags.ts'
import { UsageError } from './usage-error.ts'

const clusterFlags = { ...kubectlFlags, namespace: kubectlNamespaceFlag }
const flags = { ...clusterFlags, ...moveFlags }
const adoptionFlags = { ...clusterFlags, ...adoptFromFlags }
type MoveCall = Call<typeof flags> | Call<typeof adoptionFlags>

/** What is to become of volumes. */
interface Task {
  to: FrontName
  from?: ProjectName
  /** How many are moved at once. */
  concurrency: number
  inUse: boolean
  /** As messages call what is done: `move`, `moved`. */
  verb: string
  past: string
  /** Where they are then. */
  there: string
  /** Those that it is about. */
  whose: string
  isMeant(volume: Movable): boolean
}

const words: Record<FrontName, string> = { csi: 'CSI', flex: 'FlexVolume' }
const otherOf = (to: FrontName) => words[to === 'csi' ? 'flex' : 'csi']

/** From one front to the other, and back. */
export const moveCommands: readonly Command[] = (['csi', 'flex'] as const).map((to) => {
  const other = otherOf(to)
  return defineCommand({
    name: `volumes move-to-${to}`,
    group: 'Inspect volumes',
    changes: true,
    args: '[...claims]',
    summary: `Move volumes from ${other} to ${words[to]}, in place: their PersistentVolumes are recreated`,
    description:
      'Of the claims named, of all of a namespace (--all), or of all (-A). No data is touched, and nothing is copied. Until a\n' +
      "volume's PersistentVolume is there again, a second or so, its claim is Lost, and says that in an event. What pods use\n" +
      'is left as it is, or, with --in-use, moved while they run. Killed at any moment, it continues when it is run again.\n' +
      'Exits with 1 when something was not moved. docs/csi.md has more.',
    examples: [
      `kubectl elastic_local volumes move-to-${to} data -n shop`,
      `kubectl elastic_local volumes move-to-${to} -A --dry-run`,
    ],
    flags,
    run: (call) =>
      moveAll(call, {
        ...{ to, concurrency: 8, inUse: call.flags.inUse },
        ...{ verb: 'move', past: 'moved', there: `on ${words[to]}`, whose: `of ${other}` },
        isMeant: ({ front, begunAt, from }) => (begunAt ? !from : front !== undefined && front !== to),
      }),
  })
}) as readonly Command[]

/** From other projects. */
export const adoptCommand = defineCommand({
  name: 'volumes adopt',
  group: 'Inspect volumes',
  changes: true,
  args: '[...claims]',
  summary: 'Adopt volumes of TopoLVM, OpenEBS LocalPV-LVM or local-path-provisioner, in place',
  description:
    'Of the claims named, of all of a namespace (--all), or of all (-A). Nothing is copied: the logical volume, or the\n' +
    "directory, becomes ours, and the claim's PersistentVolume is recreated for our CSI driver. Only what no pod uses, in a\n" +
    'pool of its node. Until the other PersistentVolume goes, everything is taken back where something is in the way. Killed\n' +
    'at any moment, it continues when it is run again. With --dry-run, daemons are not asked what they find on their nodes.\n' +
    'Exits with 1 when something was not adopted. docs/from-others.md has more.',
  examples: [
    'kubectl elastic_local volumes adopt --from local-path data -n shop',
    'kubectl elastic_local volumes adopt --from topolvm -A --dry-run',
  ],
  flags: adoptionFlags,
  run: async (call) => {
    const { from } = call.flags
    if (!from) throw new UsageError(`Cannot tell whose volumes to adopt: use --from ${adoptFromFlags.from.value}.`)
    const { projects } = await import('../k8s/moves/projects.ts')
    const { title } = projects[from]
    return await moveAll(call, {
      // One at a time, as each pod is to be stopped for it.
      ...{ to: 'csi', from, concurrency: 1, inUse: false },
      ...{ verb: 'adopt', past: 'adopted', there: 'ours', whose: `of ${title}` },
      isMeant: (volume) => volume.from === from,
    })
  },
})

async function moveAll(call: MoveCall, task: Task): Promise<number> {
  const { kubeconfig, context, systemNamespace: namespace, all, allNamespaces, dryRun } = call.flags
  const { to, from, inUse, verb, past, there, whose } = task
  if (Number(call.args.length > 0) + Number(all) + Number(allNamespaces) !== 1)
    throw new UsageError(`Cannot tell what to ${verb}: name claims, or use --all for those of the namespace, or -A.`)
  if (allNamespaces && call.flags.namespace !== undefined)
    throw new UsageError(`Cannot ${verb} the volumes of one namespace and of all: leave out --namespace, or -A.`)
  const { ApiClient, findKubeConfig } = await import('../k8s/client/api.ts')
  const { machineClock } = await import('../k8s/client/clock.ts')
  const { findMovable, Mover } = await import('../k8s/moves/mover.ts')
  const { findMissingRights } = await import('../k8s/moves/rights.ts')
  const config = findKubeConfig(kubeconfig, { context, asKubectl: true })
  const own = config.getContextObject(config.getCurrentContext())?.namespace || 'default'
  const within = allNamespaces ? undefined : (call.flags.namespace ?? own)
  const api = new ApiClient(config)
  const missing = await findMissingRights(api, { namespace, within, ...(from ? { from } : {}) })
  if (missing.length > 0)
    throw new Error(
      `Cannot ${verb} volumes as you may not: ${missing.join(', ')}. config/mover.yaml grants the rights.`,
    )
  const { volumes, wrongs } = await findMovable(api, namespace, { within, ...(from ? { from } : {}) })
  for (const wrong of wrongs) call.log.warn(wrong)
  const chosen = choose(volumes, call.args, task, within)
  const mover = new Mover({ api, namespace, to, from, inUse, clock: machineClock })
  const count = await workOn(call, chosen, task.concurrency, (volume) =>
    dryRun ? look(mover, volume, task) : move(mover, volume, task),
  )
  const total = chosen.length
  if (total === 0)
    call.say(`Nothing to ${verb}: ${within ? `namespace ${within} has` : 'there are'} no volumes ${whose}.`)
  else call.say(`${count} of ${total} ${dryRun ? `would be ${past}` : `${total === 1 ? 'is' : 'are'} ${there}`}.`)
  return count === total ? 0 : 1
}

const nameOf = ({ claim }: Movable) => `${claim.namespace}/${claim.name}`

/** Throws where a claim is named that has no volume of ours. */
function choose(
  volumes: readonly Movable[],
  names: readonly string[],
  { isMeant, verb, from, whose }: Task,
  within: string | undefined,
): Movable[] {
  if (names.length === 0) return volumes.filter(isMeant)
  return [...new Set(names)].flatMap((name) => {
    // Two, where a move was begun of one that an earlier claim of that name had.
    const found = volumes.filter(({ claim }) => claim.name === name)
    if (found.length > 0) return found
    throw new Error(
      `Cannot ${verb} claim ${within}/${name} as there is no PersistentVolume ${from ? `${whose}, or ` : ''}of ours for a claim of that name.`,
    )
  })
}

/** What is said of a volume, and whether it is there, or could be. */
interface Told {
  isWell: boolean
  words: string
}

async function look(mover: Mover, volume: Movable, { to, verb, there }: Task): Promise<Told> {
  const { begunAt, front } = volume
  if (begunAt)
    return { isWell: true, words: `Would continue with ${nameOf(volume)}, started ${begunAt.toISOString()}.` }
  if (front === to) return { isWell: true, words: `${nameOf(volume)} is already ${there}.` }
  const why = await mover.look(volume.name)
  if (why) return { isWell: false, words: `Would not ${verb} ${nameOf(volume)}, as ${why}.` }
  return { isWell: true, words: `Would ${verb} ${nameOf(volume)} (${volume.name}).` }
}

async function move(mover: Mover, volume: Movable, { to, from, verb, past, there }: Task): Promise<Told> {
  const result = await mover.move(volume.name)
  if ('why' in result) return { isWell: false, words: `Did not ${verb} ${nameOf(volume)}, as ${result.why}.` }
  const did = `${past.charAt(0).toUpperCase()}${past.slice(1)} ${nameOf(volume)}`
  const isThere = result.outcome === 'unchanged'
  return {
    isWell: true,
    words: isThere ? `${nameOf(volume)} is already ${there}.` : from ? `${did}.` : `${did} to ${words[to]}.`,
  }
}

/** Works on several at once, and says what became of each; gives how many are well. Ctrl-C begins no more. */
async function workOn(
  { say, log }: Pick<MoveCall, 'say' | 'log'>,
  volumes: readonly Movable[],
  concurrency: number,
  work: (volume: Movable) => Promise<Told>,
): Promise<number> {
  const left = [...volumes]
  let count = 0
  const stop = () => {
    log.warn(`Finishing what has started; ${left.splice(0).length} others are left as they are.`)
  }
  process.once('SIGINT', stop)
  const worker = async () => {
    for (let volume = left.shift(); volume; volume = left.shift()) {
      try {
        const { isWell, words } = await work(volume)
        say(words)
        if (isWell) count += 1
      } catch (error) {
        log.error(`${nameOf(volume)}: ${messageOf(error)}`)
      }
    }
  }
  await Promise.all(Array.from({ length: concurrency }, worker))
  process.off('SIGINT', stop)
  return count
}
