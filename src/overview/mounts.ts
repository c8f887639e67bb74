/** What the kubelet says of a mount that fails, and what to do about it. */
import { commandOn, daemonProblem } from './components.ts'
import { findFreshWarning } from './events.ts'
import type { ClusterFacts, PodFacts } from './facts.ts'
import type { Problem } from './records.ts'

/** What the driver said, without what the kubelet puts around it (pkg/volume/flexvolume, driver-call.go; gRPC's errors for CSI). */
export function ownWordsOf(message: string): string {
  const around = / command failed, status: Failure, reason: (.+)$| rpc error: code = \w+ desc = (.+)$/s.exec(message)
  return (around?.[1] ?? around?.[2])?.trim() ?? message
}

/** Why a pod on its way has not got a volume; nothing when nobody says so. */
export function mountProblem(facts: ClusterFacts, pod: PodFacts, volume: string): Omit<Problem, 'status'> | undefined {
  const event = findFreshWarning(
    facts,
    { kind: 'Pod', namespace: pod.namespace, name: pod.name, uid: pod.uid },
    ({ reason, message }) =>
      mountReasons.includes(reason) &&
      (message.includes(volume) || noDriver.test(message) || notRegistered.test(message)),
  )
  if (!event) return undefined
  const message = ownWordsOf(event.message)
  return { message, ...adviseOnMount(facts, pod, volume, message) }
}

/** What is wrong with a pod that names our driver itself: nobody gets a volume that way. */
export function inlineProblem(facts: ClusterFacts, pod: PodFacts, volume: string): Problem {
  const { message } = mountProblem(facts, pod, volume) ?? {}
  return {
    status: 'fail',
    message: `volume ${volume} of pod ${pod.name} is a flexVolume of our driver, which only claims may use`,
    ...(message ? { details: [message] } : {}),
    advice: 'Use a persistentVolumeClaim in the pod instead of the flexVolume.',
  }
}

const mountReasons = ['FailedMount', 'FailedMapVolume', 'FailedAttachVolume']
const noDriver = /no volume plugin matched/
/** Of a CSI driver (pkg/volume/csi, csi_plugin.go). */
const notRegistered = /driver name \S+ not found in the list of registered CSI drivers/

function adviseOnMount(facts: ClusterFacts, pod: PodFacts, volume: string, message: string): { advice?: string } {
  if (noDriver.test(message))
    return {
      advice: `The kubelet of node ${pod.node} does not find our driver: its --volume-plugin-dir is not the folder that the daemon installs it into. Set the hostPath of volume "plugins" in DaemonSet ${facts.namespace}/elastic-local-daemon to the kubelet's folder (GKE: /home/kubernetes/flexvolume).`,
    }
  if (notRegistered.test(message)) {
    const advice = daemonProblem(facts, pod.node)?.advice
    return {
      advice:
        advice ??
        `Check the log of the daemon of node ${pod.node}: it registers with the kubelet if it runs with --csi and with the kubelet's folder as --kubelet-dir. The kubelet retries automatically.`,
    }
  }
  if (
    /executable file not found|no such file or directory.*elastic-local|driver call failed|permission denied/.test(
      message,
    )
  )
    return { advice: `Put the driver back: run ${commandOn(facts, pod.node, 'install --plugin-dir=/plugins')}.` }
  if (/the elastic-local daemon (on|of this node)/i.test(message)) {
    const advice = daemonProblem(facts, pod.node)?.advice
    return { advice: advice ?? `Start the daemon of node ${pod.node}; the kubelet retries automatically.` }
  }
  if (/only a pod (whose claim is bound|with claim)|is not bound to a claim/.test(message))
    return { advice: 'Use a persistentVolumeClaim in the pod instead of the flexVolume.' }
  if (/its data is lost/.test(message)) return {}
  return { advice: `See the volume on its node: ${commandOn(facts, pod.node, `volumes show ${volume}`)}.` }
}
