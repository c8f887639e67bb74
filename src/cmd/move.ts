import type { FrontName } from '../k8s/fronts/front.ts'
import type { Movable, Mover } from '../k8s/moves/mover.ts'
import { messageOf } from '../volume/errors.ts'
import { type Call, type Command, defineCommand } from './command.ts'
import { kubectlFlags, kubectlNamespaceFlag, moveFlags } from './flags.ts'
import { UsageError } from './usage-error.ts'

const flags = { ...kubectlFlags, namespace: kubectlNamespaceFlag, ...moveFlags }
type MoveCall = Call<typeof flags>

const words: Record<FrontName, string> = { csi: 'CSI', flex: 'FlexVolume' }

/** From one front to the other, and back. */
export const moveCommands: readonly Command[] = (['csi', 'flex'] as const).map((to) => {
  const other = words[to === 'csi' ? 'flex' : 'csi']
  return defineCommand({
    name: `volumes move-to-${to}`,
    group: 'Inspect volumes',
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
    run: (call) => moveAll(call, to),
  })
}) as readonly Command[]

/** How many are moved at once. */
const concurrency = 8

async function moveAll(call: MoveCall, to: FrontName): Promise<number> {
  const { kubeconfig, context, systemNamespace: namespace, all, allNamespaces, dryRun, inUse } = call.flags
  if (Number(call.args.length > 0) + Number(all) + Number(allNamespaces) !== 1)
    throw new UsageError('Cannot tell what to move: name claims, or use --all for those of the namespace, or -A.')
  const { ApiClient, findKubeConfig } = await import('../k8s/client/api.ts')
  const { machineClock } = await import('../k8s/client/clock.ts')
  const { findMovable, Mover } = await import('../k8s/moves/mover.ts')
  const { findMissingRights } = await import('../k8s/moves/rights.ts')
  const config = findKubeConfig(kubeconfig, { context, asKubectl: true })
  const own = config.getContextObject(config.getCurrentContext())?.namespace || 'default'
  const within = allNamespaces ? undefined : (call.flags.namespace ?? own)
  const api = new ApiClient(config)
  const missing = await findMissingRights(api, { namespace, within })
  if (missing.length > 0)
    throw new Error(`Cannot move volumes as you may not: ${missing.join(', ')}. config/mover.yaml grants the rights.`)
  const { volumes, wrongs } = await findMovable(api, namespace, within)
  for (const wrong of wrongs) call.log.warn(wrong)
  const chosen = choose(volumes, call.args, to, within)
  const mover = new Mover({ api, namespace, to, inUse, clock: machineClock })
  const count = await workOn(call, chosen, (volume) => (dryRun ? look(mover, volume, to) : move(mover, volume, to)))
  const total = chosen.length
  if (total === 0)
    call.say(
      `Nothing to move: ${within ? `namespace ${within} has` : 'there are'} no volumes of ${words[to === 'csi' ? 'flex' : 'csi']}.`,
    )
  else call.say(`${count} of ${total} ${dryRun ? 'would be moved' : `${total === 1 ? 'is' : 'are'} on ${words[to]}`}.`)
  return count === total ? 0 : 1
}

const nameOf = ({ claim }: Movable) => `${claim.namespace}/${claim.name}`

/** Throws where a claim is named that has no volume of ours. */
function choose(
  volumes: readonly Movable[],
  names: readonly string[],
  to: FrontName,
  within: string | undefined,
): Movable[] {
  if (names.length === 0) return volumes.filter(({ front, begunAt }) => begunAt || front !== to)
  return [...new Set(names)].map((name) => {
    const found = volumes.find(({ claim }) => claim.name === name)
    if (found) return found
    throw new Error(
      `Cannot move claim ${within}/${name} as there is no PersistentVolume of ours for a claim of that name.`,
    )
  })
}

/** What is said of a volume, and whether it is there, or could be. */
interface Told {
  isWell: boolean
  words: string
}

async function look(mover: Mover, volume: Movable, to: FrontName): Promise<Told> {
  const { begunAt, front } = volume
  if (begunAt)
    return { isWell: true, words: `Would continue with ${nameOf(volume)}, started ${begunAt.toISOString()}.` }
  if (front === to) return { isWell: true, words: `${nameOf(volume)} is already on ${words[to]}.` }
  const why = await mover.look(volume.name)
  if (why) return { isWell: false, words: `Would not move ${nameOf(volume)}, as ${why}.` }
  return { isWell: true, words: `Would move ${nameOf(volume)} (${volume.name}).` }
}

async function move(mover: Mover, volume: Movable, to: FrontName): Promise<Told> {
  const result = await mover.move(volume.name)
  if ('why' in result) return { isWell: false, words: `Did not move ${nameOf(volume)}, as ${result.why}.` }
  const isThere = result.outcome === 'unchanged'
  return {
    isWell: true,
    words: isThere ? `${nameOf(volume)} is already on ${words[to]}.` : `Moved ${nameOf(volume)} to ${words[to]}.`,
  }
}

/** Works on several at once, and says what became of each; gives how many are well. Ctrl-C begins no more. */
async function workOn(
  { say, log }: Pick<MoveCall, 'say' | 'log'>,
  volumes: readonly Movable[],
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
