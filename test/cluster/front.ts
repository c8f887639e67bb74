/** By which protocol kubelets have volumes mounted in this run of a test file: what `FRONT` says, or else flex. */
import { type FrontName, frontNames } from '../../src/k8s/fronts/front.ts'

const told = process.env.FRONT ?? 'flex'
const found = frontNames.find((name) => name === told)
if (!found) throw new Error(`Cannot test front ${told} as it must be one of ${frontNames.join(', ')}.`)

export const front: FrontName = found
export const isFlex = front === 'flex'

/** The class of deploy.yaml. */
export const className = isFlex ? 'elastic-local' : 'elastic-local-csi'

/** Where the kubelet has a volume in the folder of its pod. */
export const placeOf = (volume: string, by = front) =>
  by === 'flex' ? `volumes/volumes.k8s.elastic.co~elastic-local/${volume}` : `volumes/kubernetes.io~csi/${volume}/mount`
