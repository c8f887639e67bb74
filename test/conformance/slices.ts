/** Which specs of the suite are run, where, and which are known not to pass. */
import { readFileSync } from 'node:fs'
import type { DriverName } from './drivers.ts'

export interface Slice {
  name: string
  driver: DriverName
  /** The cluster's nodes; slices of as many share it. */
  nodes: 1 | 2
  /** How many specs run side by side. */
  atOnce: number
  /** Which of the specs, by their full names: regular expressions of Go. */
  focus: string
  skip: string
}

/** Growth of a mounted filesystem, for which ext4 needs a right that some machines do not give. */
const growth = 'External.Storage.*([Ee]xpan|resize)'
const disruptive = '\\[Disruptive\\]'
/** Needs images that cannot be had without a registry; what it is about (a claim with `dataSourceRef`) is no matter of ours. */
const populators = 'any volume data source'

export const slices: readonly Slice[] = [
  {
    name: 'storage',
    driver: 'flex',
    nodes: 2,
    atOnce: 4,
    focus: 'External.Storage',
    skip: `${disruptive}|${populators}`,
  },
  {
    name: 'xfs',
    driver: 'xfs',
    nodes: 2,
    atOnce: 4,
    focus: growth,
    skip: disruptive,
  },
  {
    name: 'claims',
    driver: 'flex',
    nodes: 2,
    atOnce: 4,
    focus:
      '\\[sig-storage\\] (PVC Protection|PV Protection|PersistentVolumes (CSI|Default)|StorageClasses|CSIStorageCapacity|Ephemeralstorage)',
    skip: disruptive,
  },
  {
    name: 'csi',
    driver: 'csi',
    nodes: 2,
    atOnce: 4,
    focus: 'External.Storage',
    skip: `${disruptive}|${populators}`,
  },
  {
    name: 'csi-xfs',
    driver: 'csiXfs',
    nodes: 2,
    atOnce: 4,
    focus: growth,
    skip: disruptive,
  },
  {
    name: 'statefulsets',
    driver: 'flex',
    nodes: 2,
    atOnce: 4,
    focus: '\\[sig-apps\\] StatefulSet',
    // Databases of images that cannot be had, and gates that Kubernetes has off.
    skip: 'Deploy clustered|OffByDefault',
  },
  {
    name: 'immediate',
    driver: 'immediate',
    nodes: 2,
    atOnce: 4,
    focus: 'External.Storage',
    skip: `${disruptive}|${populators}`,
  },
  {
    name: 'disruptive',
    driver: 'flex',
    nodes: 1,
    atOnce: 1,
    focus: `External.Storage.*${disruptive}`,
    skip: 'NOTHING',
  },
  {
    name: 'flexvolume',
    driver: 'flex',
    nodes: 1,
    atOnce: 1,
    focus: '[Ff]lexvolume|Detaching volumes',
    skip: 'NOTHING',
  },
]

/** A spec that fails, and why that is no fault, or one that is known. */
export interface Exception {
  slice: string
  /** What its full name ends with. */
  spec: string
  why: string
  /** Whether it is one on this machine. */
  applies?: () => boolean
}

/** CAP_SYS_RESOURCE (capabilities(7)). */
const sysResource = 24n

const lacksSysResource = () => {
  const [, effective = '0'] = /^CapEff:\s+(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? []
  return (BigInt(`0x${effective}`) & (1n << sysResource)) === 0n
}

const growsMounted = (slice: string, spec: string): Exception => ({
  slice,
  spec,
  why: 'A mounted ext4 grows only with CAP_SYS_RESOURCE, which this machine does not give; the slice with xfs shows the same.',
  applies: lacksSysResource,
})

export const exceptions: readonly Exception[] = [
  ...[
    'should resize volume when PVC is edited while pod is using it',
    'should support expansion of pvcs created for ephemeral pvcs',
  ].flatMap((spec) => ['storage', 'csi'].map((slice) => growsMounted(slice, spec))),
  growsMounted(
    'csi',
    'should resize volume when PVC is edited and the pod is re-created on the same node after controller resize is finished',
  ),
  {
    slice: 'storage',
    spec: 'should provision storage with mount options',
    why: 'It looks for spec.mountOptions, which the kubelet refuses on a flex volume: they are an option of the volume.',
  },
  {
    slice: 'storage',
    spec: 'provides storage capacity information',
    why: 'It looks for the topology keys of the driver on CSINode objects, which a flex driver has not.',
  },
]
