/** Which specs of the suite are run, where, and which are known not to pass. */
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
  { name: 'xfs', driver: 'xfs', nodes: 2, atOnce: 4, focus: 'External.Storage', skip: `${disruptive}|${populators}` },
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

export const exceptions: readonly Exception[] = []
