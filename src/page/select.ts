/** What of an overview is shown, and in which order: what is most troubled first. Pure. */
import type { NodeRecord, Overview, PoolRecord, Problem, VolumeRecord } from '../overview/records.ts'

/** What somebody looks for. */
export interface Wish {
  /** Words, all of which must be there. */
  text: string
  /** Only what is not as it should be. */
  troubled: boolean
  /** Which page of the nodes and of the volumes, from 1. */
  nodesPage: number
  volumesPage: number
}

/** A node with what it holds. */
export interface NodeRow {
  node: NodeRecord
  pool?: PoolRecord
  room?: Room
  problems: readonly Problem[]
}

/** What a pool is taken up by. */
export interface Room {
  sizeBytes: bigint
  /** Allocated to volumes that are made. */
  madeBytes: bigint
  /** Allocated to volumes that are not made yet. */
  pendingBytes: bigint
  freeBytes: bigint
}

/** One thing that is wrong, with all that it is wrong with. */
export interface Trouble extends Problem {
  subjects: { text: string; path?: string }[]
}

/** One page of rows. */
export interface Rows<T> {
  rows: readonly T[]
  /** How many there are on all pages. */
  count: number
  page: number
  pages: number
}

export interface Selection {
  wish: Wish
  troubles: readonly Trouble[]
  nodes: Rows<NodeRow>
  volumes: Rows<VolumeRecord>
}

const nodesAPage = 50
const volumesAPage = 100

export const pathOfVolume = (name: string) => `/volumes/${encodeURIComponent(name)}`
export const titleOfVolume = ({ claim, name }: Pick<VolumeRecord, 'claim' | 'name'>) =>
  claim ? `${claim.namespace}/${claim.name}` : name

export function select(overview: Overview, wish: Wish): Selection {
  const isWanted = buildFilter(wish.text)
  const nodes = listNodes(overview).filter(
    ({ node, pool, problems }) =>
      (!wish.troubled || problems.length > 0) &&
      isWanted([
        ...[node.name, node.hostname, node.state, node.schedulable ? '' : 'cordoned', node.daemon, pool?.name],
        ...[pool?.driverKind, ...textsOf(problems)],
      ]),
  )
  const volumes = overview.volumes.filter(
    (volume) =>
      (!wish.troubled || volume.problems.length > 0) &&
      isWanted([
        ...[
          titleOfVolume(volume),
          volume.name,
          volume.state,
          volume.node,
          volume.storageClass,
          volume.fsType,
          volume.front,
        ],
        ...volume.pods.map(({ name }) => name),
        ...textsOf(volume.problems),
      ]),
  )
  return {
    wish,
    troubles: findTroubles(overview, nodes, volumes),
    nodes: paginate(mostTroubledFirst(nodes, nodeUrgency), wish.nodesPage, nodesAPage),
    volumes: paginate(mostTroubledFirst(volumes, volumeUrgency), wish.volumesPage, volumesAPage),
  }
}

/** Whether a record's texts have all words of `text` in them, in whatever case. */
function buildFilter(text: string): (texts: readonly (string | undefined)[]) => boolean {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean)
  if (words.length === 0) return () => true
  return (texts) => {
    const all = texts.join('\n').toLowerCase()
    return words.every((word) => all.includes(word))
  }
}

const textsOf = (problems: readonly Problem[]) => problems.map(({ message }) => message)

/** Nodes with their pools and the room in them. */
export function listNodes({ nodes, pools, volumes }: Overview): NodeRow[] {
  const poolOf = new Map(pools.map((pool) => [pool.node, pool]))
  const madeOn = new Map<string, bigint>()
  for (const { node, sizeBytes } of volumes)
    if (node !== undefined && sizeBytes !== undefined) madeOn.set(node, (madeOn.get(node) ?? 0n) + sizeBytes)
  return nodes.map((node) => {
    const pool = poolOf.get(node.name)
    // What is wrong with a pool is told of its node as well.
    const known = new Set(textsOf(node.problems))
    const problems = [...node.problems, ...(pool?.problems.filter(({ message }) => !known.has(message)) ?? [])]
    return { node, ...(pool ? { pool, room: roomOf(pool, madeOn.get(node.name) ?? 0n) } : {}), problems }
  })
}

function roomOf({ sizeBytes, allocatedBytes, freeBytes }: PoolRecord, ofVolumes: bigint): Room {
  const madeBytes = ofVolumes < allocatedBytes ? ofVolumes : allocatedBytes
  return { sizeBytes, madeBytes, pendingBytes: allocatedBytes - madeBytes, freeBytes }
}

/** All room of the cluster. */
export function addRooms(rows: readonly NodeRow[]): Room {
  const sum = (part: keyof Room) => rows.reduce((total, { room }) => total + (room?.[part] ?? 0n), 0n)
  return {
    sizeBytes: sum('sizeBytes'),
    madeBytes: sum('madeBytes'),
    pendingBytes: sum('pendingBytes'),
    freeBytes: sum('freeBytes'),
  }
}

/** What is wrong, worst first; what is wrong with many in the same way is there once. */
export function findTroubles(
  { provisioner }: Pick<Overview, 'provisioner'>,
  nodes: readonly NodeRow[],
  volumes: readonly VolumeRecord[],
): readonly Trouble[] {
  const found = new Map<string, Trouble>()
  const add = (subject: Trouble['subjects'][number], problems: readonly Problem[]) => {
    for (const problem of problems) {
      const { status: _, ...cause } = problem
      const key = JSON.stringify(cause)
      const same = found.get(key)
      if (!same) found.set(key, { ...problem, subjects: [subject] })
      else {
        same.subjects.push(subject)
        if (problem.status === 'fail') same.status = 'fail'
      }
    }
  }
  add({ text: 'provisioner' }, provisioner.problems)
  for (const { node, problems } of nodes) add({ text: `node ${node.name}` }, problems)
  for (const volume of volumes) add({ text: titleOfVolume(volume), path: pathOfVolume(volume.name) }, volume.problems)
  return mostTroubledFirst(
    [...found.values()],
    ({ status, subjects }) => (status === 'fail' ? 1e9 : 0) + subjects.length,
  )
}

/** How urgent the worst problem is; 0 without one. */
export function worstOf(problems: readonly Problem[]): Problem['status'] | undefined {
  if (problems.some(({ status }) => status === 'fail')) return 'fail'
  return problems.length > 0 ? 'warn' : undefined
}

const urgencyOf = (problems: readonly Problem[]) => ({ fail: 20, warn: 10, none: 0 })[worstOf(problems) ?? 'none']

const nodeUrgency = ({ node, problems }: NodeRow) => urgencyOf(problems) + (node.state === 'ready' ? 0 : 1)

/** Those that are under way before those that are there. */
const volumeUrgency = ({ state, problems }: VolumeRecord) => urgencyOf(problems) + (state === 'ready' ? 0 : 1)

/** In the order that they have among those as urgent. */
function mostTroubledFirst<T>(records: readonly T[], urgency: (record: T) => number): T[] {
  return records
    .map((record) => ({ record, urgency: urgency(record) }))
    .sort((a, b) => b.urgency - a.urgency)
    .map(({ record }) => record)
}

function paginate<T>(all: readonly T[], wanted: number, size: number): Rows<T> {
  const pages = Math.max(1, Math.ceil(all.length / size))
  const page = Math.min(Math.max(1, wanted), pages)
  return { rows: all.slice((page - 1) * size, page * size), count: all.length, page, pages }
}
