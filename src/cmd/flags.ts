import { isIP } from 'node:net'
import { hostname } from 'node:os'
import { isAbsolute, normalize, resolve } from 'node:path'
import type { Address } from '../daemon/server.ts'
import { defaultSettings } from '../flex/settings.ts'
import { projectNames } from '../k8s/model/origin.ts'
import { logLevels } from '../log.ts'
import { checkTemplate } from '../text/json-path.ts'
import type { DriverKind } from '../volume/pool.ts'
import { parseSize } from '../volume/size.ts'
import { completeContexts, completeNamespaces } from './completion/names.ts'
import { UsageError } from './usage-error.ts'

/** One flag of a command. Its value goes through `parse` wherever it comes from: command line, environment, default. */
export interface Flag<T = unknown> {
  /** Without the dashes: `driver-kind`. */
  name: string
  /** One letter, without the dash. */
  short?: string
  /** What stands for the value in the help, such as `<path>`. None: the flag is a switch. */
  value?: string
  default?: string
  /** What the help says in place of a default that depends on the machine. */
  defaultHelp?: string
  help: string
  /** The switch without which it changes nothing. */
  onlyWith?: string
  /** A switch of the same command with which this one changes nothing. */
  notWith?: string
  /** Finds values that there are, where somebody else knows them. */
  complete?: Completer
  /** All values that there are, where they can be named. */
  values?: readonly string[]
  /** Environment variables that give the value, the first one set winning. An empty one counts as not set. */
  env: readonly string[]
  /** Completes the sentence "it must be …". */
  mustBe: string
  /** The same as a JSON schema, for values that are no texts, or of which it tells more than that they are texts. */
  schema?: JsonSchema
  /** `undefined`: the text is no such value. */
  parse(text: string): T | undefined
}

/** Finds what may stand at the end of a line: all of it, or what goes on as it is `begun`. */
export type Completer = (line: {
  begun: string
  /** The arguments before. */
  args: readonly string[]
  /** What the line, the environment and the defaults give. */
  flags: Readonly<Record<string, unknown>>
}) => Promise<readonly string[]>

/** What the chart's schema says of a value; wherever it says yes, `parse` does. */
export type JsonSchema = Readonly<Record<string, unknown>>

export type Flags = Readonly<Record<string, Flag>>

/** Values by the keys of `Flags`: the parsed value, or `undefined` where there is neither value nor default. */
export type FlagValues<F extends Flags> = {
  [K in keyof F]: F[K] extends Flag<infer T> & { default: string }
    ? T
    : F[K] extends Flag<infer T>
      ? T | undefined
      : never
}

type Kind<T> = Pick<Flag<T>, 'parse' | 'mustBe' | 'values' | 'schema'>
type Definition = Pick<Flag, 'name' | 'help'> &
  Partial<Pick<Flag, 'short' | 'value' | 'default' | 'defaultHelp' | 'env' | 'complete'>>

/** A flag of one command. */
export function flag<T, const D extends Definition>(kind: Kind<T>, definition: D): Flag<T> & D {
  return { env: [], ...kind, ...definition }
}

/** A flag that is a setting of the machine, and so has an environment variable, too: `ELASTIC_LOCAL_<FLAG>`. */
function setting<T, const D extends Definition>(kind: Kind<T>, definition: D): Flag<T> & D {
  const env = [`ELASTIC_LOCAL_${definition.name.toUpperCase().replaceAll('-', '_')}`, ...(definition.env ?? [])]
  return { ...kind, ...definition, env }
}

/** A switch: on when given, or `true`, `false`, `1`, `0`. */
export function toggle<const N extends string>(name: N, help: string, short?: string) {
  return flag(yesOrNo, { name, help, default: 'false', ...(short ? { short } : {}) })
}

/** Flags of a command that change nothing without one of its switches. */
export function onlyWith<F extends Flags>(name: string, flags: F): F {
  return Object.fromEntries(Object.entries(flags).map(([key, flag]) => [key, { ...flag, onlyWith: name }])) as F
}

export function oneOf<const T extends string>(...values: readonly T[]): Kind<T> {
  const [last, ...others] = [...values].reverse()
  return {
    values,
    mustBe: others.length ? `${others.reverse().join(', ')} or ${last}` : String(last),
    parse: (text) => values.find((value) => value === text),
  }
}

const yesOrNo: Kind<boolean> = {
  mustBe: 'true, false, 1 or 0',
  schema: { type: 'boolean' },
  parse: (text) => ({ true: true, 1: true, false: false, 0: false })[text],
}

const path: Kind<string> = {
  mustBe: 'an absolute path',
  schema: { type: 'string', pattern: '^/' },
  parse: (text) => (isAbsolute(text) ? normalize(text).replace(/(?<=.)\/$/, '') : undefined),
}

const socketPath: Kind<string> = {
  // unix(7): 108 bytes with the NUL at the end.
  mustBe: 'an absolute path of at most 107 bytes',
  schema: { type: 'string', pattern: '^/[!-~]{1,106}$' },
  parse: (text) => (Buffer.byteLength(text) <= 107 ? path.parse(text) : undefined),
}

const address: Kind<Address> = {
  mustBe: '<address>:<port>, [<IPv6 address>]:<port>, or :<port> for all addresses',
  // A variable that is empty counts as not set.
  schema: { type: 'string', pattern: '^$|^([0-9.]+|\\[[0-9a-fA-F:.]+\\])?:[0-9]{1,5}$' },
  parse: (text) => {
    const [, v6, other = '', digits = ''] = /^(?:\[([0-9a-f:.]+)\]|([^:[\]]*)):([0-9]{1,5})$/i.exec(text) ?? []
    const [host, port] = [v6 ?? other, Number(digits)]
    const isHost = host === '' || isIP(host) === (v6 === undefined ? 4 : 6)
    return digits !== '' && isHost && port <= 65535 ? { port, ...(host ? { host } : {}) } : undefined
  },
}

const percent: Kind<number> = {
  mustBe: 'a whole number from 1 to 100',
  schema: { type: 'integer', minimum: 1, maximum: 100 },
  parse: (text) => (/^(100|[1-9][0-9]?)$/.test(text) ? Number(text) : undefined),
}

const ratio: Kind<number> = {
  mustBe: 'a number above 0 and up to 1000, such as 1.5',
  schema: { type: 'number', exclusiveMinimum: 0, maximum: 1000 },
  parse: (text) => {
    const number = /^[0-9]{1,4}(\.[0-9]{1,6})?$/.test(text) ? Number(text) : 0
    return number > 0 && number <= 1000 ? number : undefined
  },
}

const longestSeconds = 365 * 86_400

/** In seconds. */
const duration: Kind<number> = {
  mustBe: 'a duration of up to a year, such as 30s, 5m, 1h30m or 7d, or a number of seconds',
  schema: {
    oneOf: [
      { type: 'string', pattern: '^([12]?[0-9]{1,2}d|[0-9]{1,3}h|[0-9]{1,5}m|[0-9]{1,7}s|[0-9]{1,2}h[0-9]{1,2}m)$' },
      { type: 'integer', minimum: 0, maximum: longestSeconds },
    ],
  },
  parse: (text) => {
    if (/^[0-9]{1,8}$/.test(text)) return Number(text) <= longestSeconds ? Number(text) : undefined
    const [whole, ...parts] = /^(?:([0-9]+)d)?(?:([0-9]+)h)?(?:([0-9]+)m)?(?:([0-9]+)s)?$/.exec(text) ?? []
    const [days = 0, hours = 0, minutes = 0, seconds = 0] = parts.map((part) => Number(part ?? 0))
    const total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    return whole && total <= longestSeconds ? total : undefined
  },
}

const namespace: Kind<string> = {
  mustBe: 'a namespace: 1 to 63 of a-z, 0-9 and "-", with "-" neither first nor last',
  parse: (text) => (/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text) ? text : undefined),
}

const lvmName: Kind<string> = {
  mustBe: 'an LVM name: 1 to 127 of a-z, A-Z, 0-9, "+", "_", "." and "-", the first none of ".-" (lvm(8))',
  schema: { type: 'string', pattern: '^[a-zA-Z0-9+_][a-zA-Z0-9+_.-]{0,126}$' },
  parse: (text) => (/^[a-zA-Z0-9+_][a-zA-Z0-9+_.-]{0,126}$/.test(text) ? text : undefined),
}

const objectName: Kind<string> = {
  mustBe: 'a name: 1 to 253 of a-z, 0-9, "-" and ".", the first and last a letter or digit',
  parse: (text) => (/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(text) ? text : undefined),
}

const size: Kind<bigint> = {
  mustBe: 'a size in bytes, such as 1073741824, 375Gi or 2T',
  parse: (text) => {
    try {
      return parseSize(text, '')
    } catch {
      return undefined
    }
  },
}

/** What this machine's volumes are made of: the flags of whatever touches its disks. */
export const machineFlags = {
  driverKind: setting(oneOf<DriverKind>('LVM', 'LOOP', 'BINDMOUNT'), {
    name: 'driver-kind',
    value: '<kind>',
    default: 'LVM',
    help: 'what volumes are: LVM (logical volumes), LOOP (image files), BINDMOUNT (directories, no size limit)',
  }),
  volumesDir: setting(path, {
    name: 'volumes-dir',
    value: '<path>',
    default: '/mnt/elastic-local-volumes',
    help: 'where volumes are mounted on the node; LOOP and BINDMOUNT also store them there',
  }),
  lvmVolumeGroup: setting(lvmName, {
    name: 'lvm-volume-group',
    value: '<name>',
    default: 'elastic-local-vg',
    help: 'the volume group that holds the volumes',
  }),
  lvmUseThinVolumes: setting(yesOrNo, {
    name: 'lvm-use-thin-volumes',
    default: 'false',
    help: 'create thin volumes, in a thin pool that is created on first use',
  }),
  lvmThinPool: setting(lvmName, {
    name: 'lvm-thin-pool',
    value: '<name>',
    default: 'elastic-local-thinpool',
    help: 'the thin pool',
  }),
  lvmThinOvercommitRatio: setting(ratio, {
    name: 'lvm-thin-overcommit-ratio',
    value: '<number>',
    default: '1',
    help: "how much may be allocated, as a multiple of the thin pool's size",
  }),
  lvmThinDataWatermark: setting(percent, {
    name: 'lvm-thin-data-watermark',
    value: '<percent>',
    default: '90',
    help: "no new thin volumes and no growth while more of the pool's data is written",
  }),
  lvmThinMetadataWatermark: setting(percent, {
    name: 'lvm-thin-metadata-watermark',
    value: '<percent>',
    default: '80',
    help: "the same for the pool's metadata",
  }),
  loopPreallocate: setting(yesOrNo, {
    name: 'loop-preallocate',
    default: 'false',
    help: 'reserve the whole size of an image file at once (default: it grows as it is written)',
  }),
  hostTools: setting(yesOrNo, {
    name: 'host-tools',
    default: 'false',
    help: "run the host's LVM, mkfs and mount through nsenter, from a container that shares the host's processes",
  }),
}

export const socketFlag = setting(socketPath, {
  name: 'socket',
  value: '<path>',
  default: defaultSettings.socket,
  help: "the daemon's socket",
})

export const pluginDirFlag = setting(path, {
  name: 'plugin-dir',
  value: '<path>',
  default: '/usr/libexec/kubernetes/kubelet-plugins/volume/exec',
  help: "the kubelet's --volume-plugin-dir (GKE: /home/kubernetes/flexvolume)",
})

/** What a component says of itself. */
export const statusFlags = {
  httpAddress: setting(address, {
    name: 'http-address',
    value: '<address>:<port>',
    defaultHelp: 'off',
    help: 'where to serve /metrics, /healthz and /readyz by HTTP; ":9810" is all addresses',
  }),
  logFormat: setting(oneOf('json', 'text'), {
    name: 'log-format',
    value: '<format>',
    defaultHelp: 'text on a terminal, else json',
    help: 'the format of log messages: json (one object a line), text',
  }),
}

/** What the daemon needs besides `machineFlags`. */
export const daemonFlags = {
  socket: socketFlag,
  nodeName: setting(objectName, {
    name: 'node-name',
    value: '<name>',
    defaultHelp: "the machine's host name",
    env: ['NODE_NAME'],
    help: 'the name of this node in Kubernetes',
  }),
  kubeletDir: setting(path, {
    name: 'kubelet-dir',
    value: '<path>',
    default: '/var/lib/kubelet',
    help: "the kubelet's --root-dir: nothing is mounted outside it",
  }),
  csi: setting(yesOrNo, {
    name: 'csi',
    default: 'false',
    help: "also serve CSI, on plugins/elastic-local/csi.sock in the kubelet's folder (see docs/csi.md)",
  }),
  flex: setting(yesOrNo, {
    name: 'flex',
    default: 'true',
    help: 'serve FlexVolumes: false where no flex driver is installed, so that none are placed here',
  }),
  takeover: setting(yesOrNo, {
    name: 'takeover',
    default: 'false',
    help: "mark the predecessor's volumes that have a PersistentVolume as ours (see docs/takeover.md)",
  }),
  removeOrphansAfter: setting(duration, {
    name: 'remove-orphans-after',
    value: '<duration>',
    defaultHelp: 'never',
    help: 'remove a volume whose PersistentVolume has been gone for this long',
  }),
  unmountOrphansAfter: setting(duration, {
    name: 'unmount-orphans-after',
    value: '<duration>',
    default: '1h',
    help: 'unmount what a pod that has been gone for this long left mounted, if the kubelet has not',
  }),
  standalone: setting(yesOrNo, {
    name: 'standalone',
    default: 'false',
    help: 'without Kubernetes: trust whoever can open the socket, and create a volume at its first mount',
  }),
}

/** This machine's node: the one named, else its host name as a kubelet writes it. */
export const ownNodeName = (nodeName: string | undefined): string => nodeName ?? hostname().toLowerCase()

const claimName: Kind<{ namespace: string; name: string }> = {
  mustBe: 'a claim: <namespace>/<name>',
  parse: (text) => {
    const [, claimNamespace, name] = /^([a-z0-9-]{1,63})\/([a-z0-9][a-z0-9.-]{0,252})$/.exec(text) ?? []
    return claimNamespace && name ? { namespace: claimNamespace, name } : undefined
  },
}

/** Whom a volume is for that the cluster does not know. */
export const adoptFlags = {
  claim: flag(claimName, {
    name: 'claim',
    value: '<namespace>/<name>',
    defaultHelp: 'the one it had',
    help: 'the claim it is for',
  }),
  storageClass: flag(objectName, {
    name: 'storage-class',
    value: '<name>',
    default: 'elastic-local',
    help: 'the StorageClass of that claim',
  }),
}

/** How the cluster is reached. */
export const clusterFlags = {
  kubeconfig: setting(path, {
    name: 'kubeconfig',
    value: '<path>',
    defaultHelp: "the pod's service account, else KUBECONFIG",
    help: 'how to reach the API server',
  }),
  namespace: setting(namespace, {
    name: 'namespace',
    value: '<name>',
    default: 'elastic-local',
    env: ['POD_NAMESPACE'],
    help: 'the namespace of our own objects: ledgers, capacities, the Lease',
  }),
}

/** What the provisioner needs besides `clusterFlags`. */
export const provisionerFlags = {
  defaultFront: setting(oneOf('flex', 'csi'), {
    name: 'default-front',
    value: '<front>',
    default: 'flex',
    help: 'the protocol by which kubelets mount volumes of StorageClasses that name no front: flex, csi',
  }),
  nodeGoneGrace: setting(duration, {
    name: 'node-gone-grace',
    value: '<duration>',
    default: '5m',
    help: 'give up the volumes of a node whose Node object has been gone for this long',
  }),
  deleteClaimsOfGoneNodes: setting(yesOrNo, {
    name: 'delete-claims-of-gone-nodes',
    default: 'false',
    help: 'delete claims whose node is gone for good, so that their owners get new, empty ones elsewhere',
  }),
  page: setting(yesOrNo, {
    name: 'page',
    default: 'false',
    help: 'serve a web page of nodes, pools and volumes at --http-address, through kubectl port-forward only',
  }),
}

/** Against taking the wrong disk. */
export const diskSizeFlag = flag(size, {
  name: 'size',
  value: '<size>',
  defaultHelp: 'any',
  help: 'the expected size of each disk, give or take a tenth, such as 375Gi',
})

const anyPath: Kind<string> = { mustBe: 'a path', parse: (text) => (text === '' ? undefined : resolve(text)) }
const anyName: Kind<string> = { mustBe: 'a name', parse: (text) => text || undefined }

/** How a plugin of kubectl reaches the cluster: by kubectl's own flags, which have kubectl's meaning. */
export const kubectlFlags = {
  kubeconfig: flag(anyPath, {
    name: 'kubeconfig',
    value: '<path>',
    defaultHelp: 'KUBECONFIG, else ~/.kube/config',
    help: 'the kubeconfig file',
  }),
  context: flag(anyName, {
    name: 'context',
    value: '<name>',
    defaultHelp: 'the current one',
    help: 'the context to use',
    complete: completeContexts,
  }),
  systemNamespace: flag(namespace, {
    name: 'elastic-local-namespace',
    value: '<name>',
    default: 'elastic-local',
    env: ['ELASTIC_LOCAL_NAMESPACE'],
    help: 'the namespace that elastic-local runs in',
    complete: completeNamespaces,
  }),
}

/** Whose claims and pods a plugin of kubectl is asked for. */
export const kubectlNamespaceFlag = flag(namespace, {
  name: 'namespace',
  short: 'n',
  value: '<name>',
  defaultHelp: "the context's",
  help: 'the namespace of the claims and pods',
  complete: completeNamespaces,
})

/** Which volumes are moved from one front to the other, and when. */
export const moveFlags = {
  all: toggle('all', 'all claims of the namespace'),
  allNamespaces: toggle('all-namespaces', 'all claims of all namespaces', 'A'),
  dryRun: toggle('dry-run', 'only say what would be moved, what would not, and why'),
  inUse: toggle('in-use', 'also move volumes in use: their pods keep running, and use the new front when they restart'),
}

/** Which volumes of another project are adopted. */
export const adoptFromFlags = {
  from: flag(oneOf(...projectNames), {
    name: 'from',
    value: '<project>',
    help: `whose volumes they are: ${projectNames.join(', ')}`,
  }),
  all: moveFlags.all,
  allNamespaces: moveFlags.allNamespaces,
  dryRun: toggle('dry-run', 'only say what would be adopted, and what would not, and why'),
}

/** Every command has these. */
export const commonFlags = {
  logLevel: setting(oneOf(...logLevels), {
    name: 'log-level',
    value: '<level>',
    default: 'info',
    help: 'the log level: debug, info, warn, error; debug adds stack traces',
  }),
}

/** How long to wait for a daemon that is only starting. */
export const waitFlag = flag(duration, {
  name: 'wait',
  value: '<duration>',
  default: '0s',
  help: 'how long to wait for the daemon to start',
})

/** `-o`, for commands that print. */
export function outputFlag<const T extends string>(...formats: readonly [T, ...T[]]) {
  const plain = oneOf(...formats)
  const template = /^jsonpath=(?=.)/s
  const kind: Kind<T extends 'jsonpath=' ? `jsonpath=${string}` : T> = {
    ...plain,
    mustBe: plain.mustBe.replace('jsonpath=', 'jsonpath=<template>'),
    parse: (text) => {
      const isPath = template.test(text) && formats.some((format) => format === 'jsonpath=')
      // Before anything is done for it.
      if (isPath) checkTemplate(text.replace(template, ''))
      return (isPath || (text !== 'jsonpath=' && plain.parse(text)) ? text : undefined) as never
    },
  }
  return flag(kind, {
    name: 'output',
    short: 'o',
    value: '<format>',
    default: formats[0] as string,
    help: formats.join(', ').replace('jsonpath=', 'jsonpath=<template> as kubectl has it'),
  })
}

/**
 * The values of `flags`: from the command line (`given`, by flag name), else the environment, else the default.
 * Throws `UsageError` that names where a wrong value came from.
 */
export function resolveFlags<F extends Flags>(
  flags: F,
  given: ReadonlyMap<string, string>,
  env: NodeJS.ProcessEnv,
): FlagValues<F> {
  const values = Object.entries(flags).map(([key, definition]) => [key, resolveFlag(definition, given, env)])
  return Object.fromEntries(values) as FlagValues<F>
}

function resolveFlag(definition: Flag, given: ReadonlyMap<string, string>, env: NodeJS.ProcessEnv): unknown {
  const variable = definition.env.find((name) => env[name])
  const [source, text] = given.has(definition.name)
    ? [`--${definition.name}`, given.get(definition.name)]
    : variable
      ? [variable, env[variable]]
      : [`the default of --${definition.name}`, definition.default]
  if (text === undefined) return undefined
  const value = definition.parse(text)
  if (value === undefined)
    throw new UsageError(`Cannot use ${source} as it must be ${definition.mustBe}: it is ${JSON.stringify(text)}.`)
  return value
}
