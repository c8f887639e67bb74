/** The links of what is under way with a volume that is there: that it grows, and that it goes. */
import { poolOf } from '../../k8s/model/ledger.ts'
import { finalizer } from '../../k8s/model/names.ts'
import { formatBytes } from '../../text/quantity.ts'
import { daemonProblem } from '../components.ts'
import { because, findFreshWarning } from '../events.ts'
import type { ClusterFacts } from '../facts.ts'
import { ownWordsOf } from '../mounts.ts'
import { absence } from '../nodes.ts'
import type { Link } from '../records.ts'
import type { Subject } from '../subject.ts'
import { link, ofProblem } from './link.ts'
import { describePods } from './node-links.ts'

/** Whether a claim that wants more gets it. */
export function growthLink(_: ClusterFacts, { claim, volume, promise, pods }: Subject): Link | undefined {
  const { growth, grantedBytes, requestedBytes } = claim ?? {}
  if (!claim || !volume || claim.phase !== 'Bound' || grantedBytes === undefined || requestedBytes === undefined)
    return undefined
  if (requestedBytes <= grantedBytes) return undefined
  const what = `from ${formatBytes(grantedBytes)} to ${formatBytes(requestedBytes)}`
  if (growth?.message || growth?.phase.endsWith('Infeasible'))
    return link('growth', 'fail', `it does not grow ${what}: ${ownWordsOf(growth.message ?? growth.phase)}`, {
      advice: `Lower the request to cancel it (to more than its ${formatBytes(grantedBytes)}: Kubernetes allows no less), or make room in pool ${promise ? poolOf(promise.ledger).name : 'of its node'}: it is then retried automatically.`,
    })
  if (growth?.delay)
    return link('growth', 'fail', `it does not grow ${what} yet: ${growth.delay}`, {
      advice: 'It is tried again by itself.',
    })
  if (volume.front === 'csi')
    return link('growth', 'wait', `it grows ${what}; the daemon of node ${volume.node} does it`)
  if (pods.length === 0) return link('growth', 'wait', `it grows ${what} when a pod mounts it`)
  return link('growth', 'wait', `it grows ${what}; the kubelet does it within two minutes`)
}

/** What a deletion waits for. */
export function deletionLink(facts: ClusterFacts, { name, claim, volume, pods }: Subject): Link | undefined {
  if (claim?.isDeleting) {
    const users = pods.length > 0 ? describePods(pods) : undefined
    return link(
      'removal',
      'wait',
      users ? `the claim is deleted when its pods are gone: ${users}` : 'the claim is about to be deleted',
      {
        ...(users ? { advice: 'Delete those pods; their owners too, or they come back.' } : {}),
      },
    )
  }
  if (!volume || claim) return undefined
  if (!volume.isDeleting) {
    if (volume.phase !== 'Released' || volume.deletesData) return undefined
    return link('removal', 'ok', 'kept: its class says Retain', {
      advice: `To give it up: "kubectl delete pv ${name}", and then "elastic-local volumes remove ${name}" on its node.`,
    })
  }
  const [away] = absence(facts, volume.node)
  if (away && !facts.nodes.has(volume.node))
    return link('removal', 'wait', `${away.message}; it is released after the grace time of the provisioner`)
  if (away) return ofProblem('removal', { ...away, message: `it waits for its node: ${away.message}` })
  const failed = findFreshWarning(
    facts,
    { kind: 'PersistentVolume', name, uid: volume.uid },
    because('VolumeNotRemoved'),
  )
  if (failed) return link('removal', 'fail', failed.message, { advice: 'The daemon retries automatically.' })
  const others = volume.finalizers.filter((one) => one !== finalizer)
  if (!volume.finalizers.includes(finalizer))
    return link('removal', 'wait', `finalizer ${others.join(', ')} holds it, which is not ours`)
  const daemon = daemonProblem(facts, volume.node)
  if (daemon) return ofProblem('removal', { status: 'fail', ...daemon })
  return link('removal', 'wait', 'the daemon is removing it; wiping a large volume takes a while')
}
