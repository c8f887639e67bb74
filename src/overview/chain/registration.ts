/** What CSI needs besides the daemon: that Kubernetes knows the driver, and the node's kubelet. */
import { csiDriverName } from '../../csi/driver.ts'
import { poolOf } from '../../k8s/model/ledger.ts'
import type { ClusterFacts } from '../facts.ts'
import { registrationProblems } from '../nodes.ts'
import type { Link, Problem } from '../records.ts'
import type { Subject } from '../subject.ts'
import { link, ofProblem, unread } from './link.ts'

const anew = `Delete it and apply deploy.yaml again: "kubectl delete csidriver ${csiDriverName}". What is mounted keeps working.`

/** What is wrong with the CSIDriver object; one that is missing, only where a volume or a class is of CSI. */
export function driverProblems({ csiDriver, volumes, classes }: ClusterFacts): Problem[] {
  if (!csiDriver) {
    const isWanted =
      volumes.values().some(({ front }) => front === 'csi') ||
      classes.values().some(({ facts }) => facts?.parameters.front === 'csi')
    if (!isWanted) return []
    const message = `there is no CSIDriver object ${csiDriverName}: pods with CSI volumes wait for an attachment that never comes`
    return [{ status: 'fail', message, advice: 'Apply deploy.yaml again.' }]
  }
  const wrong = (status: Problem['status'], field: string, why: string): Problem => ({
    status,
    message: `CSIDriver ${csiDriverName} must have ${field}: ${why}`,
    advice: anew,
  })
  return [
    ...(csiDriver.attaches
      ? [wrong('fail', 'attachRequired: false', 'pods wait for a VolumeAttachment, which nobody serves')]
      : []),
    ...(csiDriver.allowsInline
      ? [wrong('fail', 'volumeLifecycleModes: [Persistent]', 'pods may name volumes without a claim')]
      : []),
    ...(csiDriver.fsGroupPolicy !== 'File'
      ? [
          wrong(
            'warn',
            'fsGroupPolicy: File',
            `a pod's fsGroup may not reach its volume; it is ${csiDriver.fsGroupPolicy}`,
          ),
        ]
      : []),
    ...(csiDriver.tellsPod
      ? []
      : [wrong('warn', 'podInfoOnMount: true', 'the daemon is not told for which pod it mounts a volume')]),
  ]
}

/** Whether the node's kubelet can call the daemon for a volume of CSI. */
export function registrationLink(facts: ClusterFacts, { volume, pods }: Subject): Link | undefined {
  if (volume?.front !== 'csi') return undefined
  const left = unread(facts, 'registration', 'csidrivers') ?? unread(facts, 'registration', 'csinodes')
  if (left) return left
  const { node } = volume
  const ledger = facts.ledgers.get(node)
  const isUnserved = ledger !== undefined && !poolOf(ledger).fronts.includes('csi')
  const unserved: Problem = {
    status: 'fail',
    message: `the daemon of node ${node} does not serve CSI`,
    advice: 'Start it with --csi, or ELASTIC_LOCAL_CSI=true (docs/csi.md).',
  }
  const problem = [
    ...driverProblems(facts).filter(({ status }) => status === 'fail'),
    ...(isUnserved ? [unserved] : registrationProblems(facts, node)),
  ].at(0)
  // What is mounted goes on all the same.
  const isServed = pods.length > 0 && pods.every(({ phase }) => phase === 'Running')
  if (problem) return ofProblem('registration', isServed ? { ...problem, status: 'warn' } : problem)
  return link('registration', 'ok', `the kubelet of node ${node} knows our CSI driver`)
}
