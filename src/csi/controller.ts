import { createHash } from 'node:crypto'
import { status } from '@grpc/grpc-js'
import type { RunCallOut } from '../daemon/call-out-runner.ts'
import type { Front } from '../daemon/front.ts'
import { formatSize } from '../text/quantity.ts'
import type { Engine } from '../volume/engine.ts'
import { messageOf, VolumeError } from '../volume/errors.ts'
import { isVolumeName } from '../volume/name.ts'
import { parseMkfsOptions } from '../volume/options.ts'
import type { Content, StoredVolume } from '../volume/pool.ts'
import { roundUp } from '../volume/size.ts'
import { type Capability, parseCapability } from './capability.ts'
import { CallError, need } from './codes.ts'
import { topologyKey } from './driver.ts'
import {
  type Controller,
  ControllerServiceCapability_RPC_Type,
  type CreateVolumeRequest,
  type Topology,
  type VolumeCapability,
} from './proto/csi_pb.ts'
import type { Handlers } from './service.ts'
import { parseSizes } from './sizes.ts'

export interface ControllerParts {
  engine: Engine
  front: Pick<Front, 'grow' | 'remove'>
  run: RunCallOut
  /** The node's name. */
  node: string
}

/** What is made where nobody says how large it is to be, if it may be so large. */
const usualBytes = 1n << 30n

/** Makes, grows and removes volumes of this node for whoever calls: without a cluster of which a provisioner takes care. */
export function buildController({ engine, front, run, node }: ControllerParts): Handlers<typeof Controller> {
  const here = { segments: { [topologyKey]: node } }
  const isHere = ({ segments }: Topology) => segments[topologyKey] === node
  const describe = ({ name, sizeBytes }: Pick<StoredVolume, 'name' | 'sizeBytes'>) => ({
    volumeId: name,
    capacityBytes: sizeBytes,
    accessibleTopology: [here],
  })

  const create = async (request: CreateVolumeRequest, name: string): Promise<StoredVolume> => {
    const fsType = fsTypeIn(parseAll(request.volumeCapabilities))
    const mkfsOptions = parseParameters(request, fsType ?? 'ext4')
    const { requiredBytes, limitBytes } = parseSizes(request.capacityRange)
    const requisite = request.accessibilityRequirements?.requisite ?? []
    if (requisite.length > 0 && !requisite.some(isHere))
      throw new VolumeError('no-space', `Cannot create a volume elsewhere: this is node ${node}.`)
    const existing = await engine.stored(name)
    const sizeBytes = requiredBytes ?? existing?.sizeBytes ?? smaller(usualBytes, limitBytes)
    const { unitBytes } = await engine.report()
    if (!existing && limitBytes !== undefined && roundUp(sizeBytes, unitBytes) > limitBytes)
      throw new CallError(
        status.OUT_OF_RANGE,
        `Cannot create a volume of at most ${formatSize(limitBytes)} as sizes are multiples of ${formatSize(unitBytes)}.`,
      )
    // One that was begun is finished, too.
    const { volume } = await engine.create(name, { sizeBytes, fsType: fsType ?? 'ext4', mkfsOptions })
    const differs =
      volume.sizeBytes < sizeBytes || (limitBytes !== undefined && volume.sizeBytes > limitBytes)
        ? formatSize(volume.sizeBytes)
        : volume.fsType && !fits(fsType, volume.fsType)
          ? `with ${volume.fsType}`
          : undefined
    if (differs)
      throw new VolumeError('exists', `Cannot create volume ${request.name} as it already exists: ${differs}.`)
    return volume
  }

  const { CREATE_DELETE_VOLUME, LIST_VOLUMES, GET_CAPACITY, EXPAND_VOLUME, SINGLE_NODE_MULTI_WRITER } =
    ControllerServiceCapability_RPC_Type
  return {
    controllerGetCapabilities: async () => ({
      capabilities: [CREATE_DELETE_VOLUME, LIST_VOLUMES, GET_CAPACITY, EXPAND_VOLUME, SINGLE_NODE_MULTI_WRITER].map(
        (type) => ({ type: { case: 'rpc' as const, value: { type } } }),
      ),
    }),
    createVolume: async (request) => {
      const name = volumeNameOf(need(request.name, 'name'))
      return await run({ what: 'CreateVolume', shown: `CreateVolume ${request.name}` }, async (about) => {
        about.volume = name
        return { volume: describe(await create(request, name)) }
      })
    },
    deleteVolume: async ({ volumeId }) => {
      const name = need(volumeId, 'volume_id')
      return await run({ what: 'DeleteVolume', shown: `DeleteVolume ${name}` }, async (about) => {
        about.volume = name
        if (isVolumeName(name)) await front.remove(name)
        return {}
      })
    },
    controllerExpandVolume: async ({ volumeId, capacityRange }) => {
      const name = need(volumeId, 'volume_id')
      const { requiredBytes } = parseSizes(capacityRange)
      if (requiredBytes === undefined)
        throw new VolumeError('invalid', 'Cannot grow a volume as capacity_range must give the new size.')
      return await run({ what: 'ControllerExpandVolume', shown: `ControllerExpandVolume ${name}` }, async (about) => {
        about.volume = name
        await mustBeThere(engine, name)
        const { volume } = await front.grow(name, requiredBytes)
        return { capacityBytes: volume.sizeBytes, nodeExpansionRequired: false }
      })
    },
    validateVolumeCapabilities: async ({ volumeId, volumeContext, volumeCapabilities, parameters }) => {
      const name = need(volumeId, 'volume_id')
      mustBeSome(volumeCapabilities)
      const { fsType: stored } = await mustBeThere(engine, name)
      try {
        const fsType = fsTypeIn(parseAll(volumeCapabilities))
        if (stored && !fits(fsType, stored)) return { message: `The volume holds ${stored}.` }
      } catch (error) {
        return { message: messageOf(error) }
      }
      return { confirmed: { volumeContext, volumeCapabilities, parameters } }
    },
    listVolumes: async ({ maxEntries, startingToken }) => {
      const after = parseToken(startingToken)
      if (maxEntries < 0) throw new VolumeError('invalid', 'Cannot list volumes as max_entries must be 0 or more.')
      const volumes = (await engine.list()).filter(({ name }) => after === undefined || name > after)
      const page = volumes.slice(0, maxEntries || undefined)
      const last = page.at(-1)
      return {
        entries: page.map((volume) => ({ volume: describe(volume) })),
        nextToken: last && page.length < volumes.length ? `${tokenStart}${last.name}` : '',
      }
    },
    getCapacity: async ({ volumeCapabilities, accessibleTopology }) => {
      const isElsewhere = accessibleTopology !== undefined && !isHere(accessibleTopology)
      if (isElsewhere || !canServe(volumeCapabilities)) return { availableCapacity: 0n }
      const { freeBytes, driverKind } = await engine.report()
      const isDevice = volumeCapabilities.some(({ accessType }) => accessType.case === 'block')
      if (isDevice && driverKind === 'BINDMOUNT') return { availableCapacity: 0n }
      return { availableCapacity: freeBytes, maximumVolumeSize: freeBytes }
    },
  }
}

/** The volume of a name as callers have them: that of Kubernetes' provisioner, or, as names may be long, a hash. */
export function volumeNameOf(name: string): string {
  if (/^pvc-/.test(name) && isVolumeName(name)) return name
  return `csi-${createHash('sha256').update(name).digest('hex').slice(0, 40)}`
}

function mustBeSome(capabilities: readonly VolumeCapability[]): void {
  if (capabilities.length > 0) return
  throw new VolumeError('invalid', 'Cannot serve this call as volume_capabilities must be given: there are none.')
}

function parseAll(capabilities: readonly VolumeCapability[]): Capability[] {
  mustBeSome(capabilities)
  return capabilities.map(parseCapability)
}

function canServe(capabilities: readonly VolumeCapability[]): boolean {
  try {
    capabilities.map(parseCapability)
    return true
  } catch {
    return false
  }
}

/** The one filesystem that all name, or `block` where all want a block device. Throws `invalid`. */
function fsTypeIn(capabilities: readonly Capability[]): Content | undefined {
  const named = new Set(capabilities.map(({ fsType }) => fsType))
  if (!named.has('block')) named.delete(undefined)
  const [first, ...others] = [...named].map((fsType) => fsType ?? 'a filesystem')
  if (others.length === 0) return [...named][0]
  throw new VolumeError('invalid', `Cannot create a volume with ${first} and ${others.join(' and ')}.`)
}

/** Whether a volume with that is what was asked for: any filesystem will do where none is named. */
const fits = (asked: Content | undefined, stored: Content) => (asked ? asked === stored : stored !== 'block')

/** The options of mkfs. Throws `invalid` for a parameter, or a source, that nothing is made of. */
function parseParameters({ parameters, mutableParameters, volumeContentSource }: CreateVolumeRequest, fsType: Content) {
  if (volumeContentSource)
    throw new VolumeError('invalid', 'Cannot create a volume from another volume or from a snapshot.')
  const { mkfsOptions = '', ...others } = parameters
  // What the external-provisioner says of the claim.
  const own = Object.keys(others).filter((key) => !key.startsWith('csi.storage.k8s.io/'))
  const unknown = [...own, ...Object.keys(mutableParameters)][0]
  if (unknown !== undefined)
    throw new VolumeError(
      'invalid',
      `Cannot create a volume with parameter ${JSON.stringify(unknown)}: only mkfsOptions is accepted.`,
    )
  return fsType === 'block' ? [] : parseMkfsOptions(fsType, mkfsOptions)
}

/** Throws `not-found`. */
async function mustBeThere(engine: Engine, name: string): Promise<StoredVolume> {
  const volume = isVolumeName(name) ? await engine.stored(name) : undefined
  if (volume) return volume
  throw new VolumeError('not-found', `Cannot find volume ${name} on this node.`)
}

const tokenStart = 'after '

/** The name after which a list goes on. Throws `ABORTED`. */
function parseToken(token: string): string | undefined {
  if (token === '') return undefined
  if (token.startsWith(tokenStart)) return token.slice(tokenStart.length)
  throw new CallError(
    status.ABORTED,
    `Cannot list volumes from token ${JSON.stringify(token)} on: it is not one of ours.`,
  )
}

const smaller = (a: bigint, b: bigint | undefined) => (b !== undefined && b < a ? b : a)
