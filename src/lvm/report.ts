import * as v from 'valibot'
import { CommandError } from '../run.ts'
import { messageOf, VolumeError } from '../volume/errors.ts'

/** What LVM answered to a command that succeeded: the rows of its report, by kind, as text. */
export interface LvmAnswer {
  lv: Row[]
  vg: Row[]
  seg: Row[]
}
export type Row = Record<string, string>

const rowsSchema = v.optional(v.array(v.record(v.string(), v.string())), [])
const answerSchema = v.object({
  report: v.optional(v.array(v.object({ lv: rowsSchema, vg: rowsSchema, seg: rowsSchema })), []),
  log: v.array(
    v.object({ log_type: v.string(), log_object_name: v.string(), log_message: v.string(), log_ret_code: v.string() }),
  ),
})
/** `ECMD_PROCESSED`: the last row of the log says how the whole command ended (lvmreport(7)). */
const succeeded = '1'

/** Reads one JSON document of the `lvm` shell. Throws `CommandError` when the command failed. */
export function parseAnswer(command: readonly string[], text: string): LvmAnswer {
  let answer: v.InferOutput<typeof answerSchema>
  try {
    answer = v.parse(answerSchema, JSON.parse(text))
  } catch (error) {
    throw new CommandError(
      { file: 'lvm', args: command },
      { reason: `gave an unreadable answer (${messageOf(error)})`, stdout: text },
    )
  }
  const status = answer.log.at(-1)
  if (status?.log_type !== 'status' || status.log_ret_code !== succeeded) {
    const stderr = answer.log
      .filter((row) => row.log_type === 'error' || row.log_type === 'warn')
      .map((row) => row.log_message)
      .join('\n')
    throw new CommandError(
      { file: `lvm ${command[0]}`, args: command },
      { exitCode: Number(status?.log_ret_code ?? 0), stderr },
    )
  }
  const rowsOf = (kind: keyof LvmAnswer) => answer.report.flatMap((part) => part[kind])
  return { lv: rowsOf('lv'), vg: rowsOf('vg'), seg: rowsOf('seg') }
}

/** The command that a document of the `lvm` shell answers; nothing when nobody can read it. */
export function commandOf(text: string): string | undefined {
  try {
    return v.parse(answerSchema, JSON.parse(text)).log.at(-1)?.log_object_name
  } catch {
    return undefined
  }
}

/** A logical volume as `lvs -o lvColumns --units b --nosuffix` shows it (lvs(8)). */
export interface LogicalVolume {
  name: string
  uuid: string
  sizeBytes: bigint
  tags: string[]
  createdAt: Date
  active: boolean
  segmentType: string
  /** The thin pool that it takes its blocks from. */
  thinPool: string
  dataPercent: number | undefined
  metadataPercent: number | undefined
  metadataBytes: bigint | undefined
  /** What LVM finds wrong with it, such as `partial` while a disk is missing; empty when it is well. */
  health: string
  /** Whether its device is suspended, so that all I/O waits. */
  suspended: boolean
  /** Whether anybody has its device open: by a mount, or as it is. */
  open: boolean
  /** The volume that it is a snapshot of, or whose blocks it shows where it has none of its own; empty if there is none. */
  origin: string
  /** Of a thin pool: whether it zeroes the blocks that it gives. */
  zeroes: boolean
  /** Of a thin pool: `error` or `queue`. */
  whenFull: string
  /** Of a thin pool: volumes take whole chunks of it. Of anything else it is 0, or says nothing. */
  chunkBytes: bigint
}

export const lvColumns =
  'lv_name,lv_uuid,lv_size,lv_tags,lv_time,lv_active,segtype,pool_lv,data_percent,metadata_percent,lv_metadata_size,lv_health_status,lv_suspended,lv_device_open,origin,zero,lv_when_full,chunk_size'

/** A volume group as `vgs -o vgColumns --units b --nosuffix` shows it: a row for each disk (vgs(8)). */
export interface VolumeGroup {
  name: string
  uuid: string
  extentBytes: bigint
  /** Of the disks that are there and may be allocated from (pvchange(8)). */
  freeBytes: bigint
  /** Of the text area that describes the group on each disk. */
  metadataAreaBytes: bigint
  metadataFreeBytes: bigint
  missingDisks: number
  /** All of them, whether ours or not. */
  volumes: number
  /** The most that there may be; 0 is no limit. */
  mostVolumes: number
  /** On its way to another machine (vgexport(8)). */
  exported: boolean
  tags: string[]
}

export const vgColumns =
  'vg_name,vg_uuid,vg_extent_size,vg_mda_size,vg_mda_free,vg_missing_pv_count,lv_count,max_lv,vg_exported,vg_tags,pv_allocatable,pv_missing,pv_pe_count,pv_pe_alloc_count'

const text = v.string()
const bytes = v.pipe(
  v.string(),
  v.regex(/^[0-9]+$/),
  v.transform((digits) => BigInt(digits)),
)
const optionalBytes = v.union([
  v.pipe(
    v.literal(''),
    v.transform(() => undefined),
  ),
  bytes,
])
const percent = v.pipe(
  v.string(),
  v.regex(/^(-?[0-9]+(\.[0-9]+)?)?$/),
  v.transform((field) => (field === '' ? undefined : Number(field))),
)

const tags = v.pipe(
  text,
  v.transform((names) => names.split(',').filter(Boolean)),
)

const lvSchema = v.object({
  lv_name: text,
  lv_uuid: text,
  lv_size: bytes,
  lv_tags: tags,
  lv_time: v.pipe(
    text,
    v.regex(/^[0-9]+$/),
    v.transform((seconds) => new Date(Number(seconds) * 1000)),
  ),
  lv_active: text,
  segtype: text,
  pool_lv: text,
  data_percent: percent,
  metadata_percent: percent,
  lv_metadata_size: optionalBytes,
  lv_health_status: text,
  lv_suspended: text,
  lv_device_open: text,
  origin: text,
  zero: text,
  lv_when_full: text,
  chunk_size: optionalBytes,
})

const count = v.pipe(text, v.regex(/^[0-9]+$/), v.transform(Number))
const vgSchema = v.object({
  vg_name: text,
  vg_uuid: text,
  vg_extent_size: bytes,
  vg_mda_size: bytes,
  vg_mda_free: bytes,
  vg_missing_pv_count: count,
  lv_count: count,
  max_lv: count,
  vg_exported: text,
  vg_tags: tags,
  pv_allocatable: text,
  pv_missing: text,
  pv_pe_count: bytes,
  pv_pe_alloc_count: bytes,
})

/** Throws `failed` with the field it cannot read and its value. */
export function parseLogicalVolume(row: Row): LogicalVolume {
  const fields = parseRow('logical volume', lvSchema, row)
  return {
    name: fields.lv_name,
    uuid: fields.lv_uuid,
    sizeBytes: fields.lv_size,
    tags: fields.lv_tags,
    createdAt: fields.lv_time,
    active: fields.lv_active !== '' && fields.lv_active !== 'unknown',
    segmentType: fields.segtype,
    thinPool: fields.pool_lv,
    dataPercent: fields.data_percent,
    metadataPercent: fields.metadata_percent,
    metadataBytes: fields.lv_metadata_size,
    health: fields.lv_health_status,
    suspended: fields.lv_suspended === 'suspended',
    open: fields.lv_device_open === 'open',
    origin: fields.origin,
    zeroes: fields.zero === 'zero',
    whenFull: fields.lv_when_full,
    chunkBytes: fields.chunk_size ?? 0n,
  }
}

/** Throws `failed` with the field it cannot read and its value. */
export function parseVolumeGroup(first: Row, ...more: Row[]): VolumeGroup {
  const fields = parseRow('volume group', vgSchema, first)
  const disks = [fields, ...more.map((row) => parseRow('volume group', vgSchema, row))]
  const usable = disks.filter((disk) => disk.pv_allocatable !== '' && disk.pv_missing === '')
  const freeExtents = usable.reduce((sum, disk) => sum + disk.pv_pe_count - disk.pv_pe_alloc_count, 0n)
  return {
    name: fields.vg_name,
    uuid: fields.vg_uuid,
    extentBytes: fields.vg_extent_size,
    freeBytes: freeExtents * fields.vg_extent_size,
    metadataAreaBytes: fields.vg_mda_size,
    metadataFreeBytes: fields.vg_mda_free,
    missingDisks: fields.vg_missing_pv_count,
    volumes: fields.lv_count,
    mostVolumes: fields.max_lv,
    exported: fields.vg_exported !== '',
    tags: fields.vg_tags,
  }
}

function parseRow<S extends v.GenericSchema>(what: string, schema: S, row: Row): v.InferOutput<S> {
  const result = v.safeParse(schema, row)
  if (result.success) return result.output
  const issue = result.issues[0]
  throw new VolumeError(
    'failed',
    `Cannot read LVM's report of a ${what}: ${v.getDotPath(issue)} is ${JSON.stringify(issue.input)}.`,
  )
}
