import { createHash } from 'node:crypto'

/** Provisioner names that are served; the first is that of our StorageClass, the second the predecessor's. */
export const provisionerNames: readonly string[] = [
  'elastic-local.volumes.k8s.elastic.co',
  'volumes.k8s.elastic.co/elastic-local',
]

/** Label of a PV, and of what else belongs to one node: the node's name. */
export const nodeLabel = 'volumes.k8s.elastic.co/node-affinity'

/** Holds a PV until its data is removed. */
export const finalizer = 'volumes.k8s.elastic.co/elastic-local'

/** An operator's word, on a PV, that its volume may be recreated where its data is lost: `true`. */
export const makeAnewAnnotation = 'volumes.k8s.elastic.co/make-lost-anew'

/**
 * Name of the record of a volume's move from one front to the other, and of the label that all of those carry. It begins as
 * nothing else does that a daemon may write.
 */
export const moveName = (volume: string) => `elastic-local-move.${volume}`
export const moveLabel = 'volumes.k8s.elastic.co/move'
/**
 * On a claim and its PV: the front that the volume was moved to. To change a claim is to have it looked at; a PV that has it has the
 * policy that it had before.
 */
export const movedAnnotation = 'volumes.k8s.elastic.co/moved-to'

/** On a PV: what another project made of its volume, as `formatOrigin` writes it. */
export const adoptedAnnotation = 'volumes.k8s.elastic.co/adopted-from'

/** Every Node has it; its value may differ from the node's name, may change, and others may have the same. */
export const hostnameLabel = 'kubernetes.io/hostname'

/** Name of the Lease that the provisioner which acts has. */
export const leaseName = 'elastic-local-provisioner'

/**
 * Names of what belongs to one node are `elastic-local.<node>.<what>`: a node's name may hold dots and dashes, and what
 * follows it none, so that a policy which compares the whole name takes no node for another.
 */
const nameOf = (node: string, what: string) => `elastic-local.${node}.${what}`
/** Name of our daemon's ledger of a node, and of the label that all ledgers carry. */
export const ledgerName = (node: string) => nameOf(node, 'ledger')
export const ledgerLabel = 'volumes.k8s.elastic.co/ledger'
/** Name of the Lease by which a node's daemon says that it is alive, and of the label that all of those carry. */
export const aliveName = (node: string) => nameOf(node, 'alive')
export const aliveLabel = 'volumes.k8s.elastic.co/alive'

/** Name of what one node says of one thing: both are in it as a hash, as together they may be too long. */
export const capacityName = (node: string, className: string) =>
  `elastic-local-${createHash('sha256').update(`${node}\0${className}`).digest('hex').slice(0, 32)}`

/** Whether an object of that name is one of those, whoever took its label away. */
export const isCapacityName = (name: string) => /^elastic-local-[0-9a-f]{32}$/.test(name)

/** Label values are at most that long, and a node's name is one. */
export const longestNodeName = 63
