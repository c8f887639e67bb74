import { readdir, readFile, rename } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { makeFolders, removeFile, replaceFile, syncFolder } from '../files.ts'
import { hasErrno, messageOf, VolumeError, writeError } from '../volume/errors.ts'
import type { Intent, Journal, UnreadableIntent } from '../volume/journal.ts'
import { contents } from '../volume/pool.ts'

/** The folder in `volumesDir` that holds what is ours alone; no volume can have that name. */
export const ownFolder = '.elastic-local'

/** Small JSON files, one a volume, each on the disk when its change resolves. */
export interface Records<T> {
  pathOf(name: string): string
  read(name: string): Promise<T | undefined>
  /** Those that can be read. */
  readAll(): Promise<Map<string, T>>
  /** All, with what is wrong in place of what cannot be read. */
  readEach(): Promise<Map<string, T | VolumeError>>
  /** The names alone, which costs no reading. */
  names(): Promise<string[]>
  write(name: string, record: T): Promise<void>
  clear(name: string): Promise<void>
}

/** Records in the files `<folder>/<name>.json`. Reading one throws `failed` where the file does not hold such a record. */
export function buildRecords<S extends v.GenericSchema>(folder: string, schema: S): Records<v.InferOutput<S>> {
  const pathOf = (name: string) => join(folder, `${name}.json`)
  const read = async (name: string): Promise<v.InferOutput<S> | undefined> => {
    try {
      return v.parse(schema, JSON.parse(await readFile(pathOf(name), 'utf8')))
    } catch (error) {
      if (hasErrno(error, 'ENOENT')) return undefined
      throw new VolumeError('failed', `Cannot read ${pathOf(name)}: ${messageOf(error)}`, { cause: error })
    }
  }
  const names = async (): Promise<string[]> => {
    const files = await readdir(folder).catch((error) => {
      if (hasErrno(error, 'ENOENT')) return []
      throw error
    })
    return files.filter((file) => /^[^.].*\.json$/.test(file)).map((file) => file.slice(0, -'.json'.length))
  }
  const readEach = async () => {
    const all = new Map<string, v.InferOutput<S> | VolumeError>()
    for (const name of await names()) {
      const record = await read(name).catch(damageOf)
      if (record !== undefined) all.set(name, record)
    }
    return all
  }
  return {
    pathOf,
    read,
    names,
    readEach,
    readAll: async () => {
      const all = new Map<string, v.InferOutput<S>>()
      for (const [name, record] of await readEach()) if (!(record instanceof VolumeError)) all.set(name, record)
      return all
    },
    write: async (name, record) => {
      try {
        await makeFolders(folder, 0o700)
        await replaceFile(pathOf(name), `${JSON.stringify(record)}\n`)
      } catch (error) {
        throw writeError(`Cannot write ${pathOf(name)}`, error)
      }
    },
    clear: async (name) => {
      await removeFile(pathOf(name))
    },
  }
}

/** What makes a record unreadable, as a value. */
export function damageOf(error: unknown): VolumeError {
  if (error instanceof VolumeError) return error
  throw error
}

const fsTypeSchema = v.picklist(contents)

/** Bytes, as decimal text in JSON, whose numbers end at 2^53. */
const bytesSchema = v.pipe(v.string(), v.regex(/^[0-9]{1,19}$/))

/** What marks a directory or an image as ours: a file beside it, written first and removed last. */
export const markerSchema = v.object({
  id: v.string(),
  sizeBytes: bytesSchema,
  fsType: fsTypeSchema,
  createdAt: v.pipe(v.string(), v.isoTimestamp()),
})
export type Marker = v.InferOutput<typeof markerSchema>

export const markerProblem = (damage: VolumeError) => `its marker is damaged (${damage.message})`

const intentSchema = v.variant('phase', [
  v.object({
    phase: v.picklist(['creating', 'formatting']),
    id: v.string(),
    sizeBytes: bytesSchema,
    fsType: fsTypeSchema,
    mkfsOptions: v.array(v.string()),
  }),
  v.object({ phase: v.picklist(['growing', 'removing']), id: v.exactOptional(v.string()) }),
])

/** An intent that was carried out; what else it said is of no interest any more. */
const madeSchema = v.object({ id: v.string() })

const noteSchema = v.object({
  front: v.optional(v.picklist(['flex', 'csi']), 'flex'),
  fsType: v.string(),
  options: v.record(v.string(), v.string()),
  claim: v.exactOptional(v.object({ namespace: v.string(), name: v.string(), uid: v.string() })),
  isForOnePod: v.exactOptional(v.boolean()),
})

/** What a node remembers of the PVs whose volumes it made, in `<volumesDir>/.elastic-local/notes`. */
export function buildNotes(volumesDir: string) {
  return buildRecords(join(volumesDir, ownFolder, 'notes'), noteSchema)
}

const podSchema = v.object({ namespace: v.string(), name: v.string() })

/** The pods that volumes were mounted for, in a folder that is as short-lived as mounts are. */
export function buildPodNotes(folder: string) {
  return buildRecords(folder, podSchema)
}

/** The journal of a node, in `<volumesDir>/.elastic-local/intents`, and beside it in `made` what became of intents to make. */
export function buildJournal(volumesDir: string): Journal {
  const [intentsFolder, madeFolder] = ['intents', 'made'].map((name) => join(volumesDir, ownFolder, name)) as [
    string,
    string,
  ]
  const intents = buildRecords(intentsFolder, intentSchema)
  const made = buildRecords(madeFolder, madeSchema)
  return {
    read: async () => new Map([...(await intents.readEach())].map(([name, record]) => [name, toIntent(record)])),
    readMade: async () => new Map([...(await made.readAll())].map(([name, { id }]) => [name, id])),
    write: async (name, intent) => {
      if (!('sizeBytes' in intent)) return await intents.write(name, intent)
      await intents.write(name, {
        ...intent,
        mkfsOptions: [...intent.mkfsOptions],
        sizeBytes: String(intent.sizeBytes),
      })
    },
    clear: intents.clear,
    finish: async (name) => {
      try {
        await makeFolders(madeFolder, 0o700)
        await rename(intents.pathOf(name), made.pathOf(name))
        for (const folder of [madeFolder, intentsFolder]) await syncFolder(folder)
      } catch (error) {
        throw writeError(`Cannot note that ${name} was created in ${madeFolder}`, error)
      }
    },
    forget: made.clear,
  }
}

function toIntent(record: v.InferOutput<typeof intentSchema> | VolumeError): Intent | UnreadableIntent {
  if (record instanceof VolumeError) return { phase: 'unreadable', problem: record.message }
  return 'sizeBytes' in record ? { ...record, sizeBytes: BigInt(record.sizeBytes) } : record
}
