import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { makeFolders, removeFile, replaceFile } from '../files.ts'
import { hasErrno, messageOf, VolumeError, writeError } from '../volume/errors.ts'
import type { Journal } from '../volume/journal.ts'
import { fsTypes } from '../volume/pool.ts'

/** The folder in `volumesDir` that holds what is ours alone; no volume can have that name. */
export const ownFolder = '.elastic-local'

/** Small JSON files, one a volume, each on the disk when its change resolves. */
export interface Records<T> {
  read(name: string): Promise<T | undefined>
  readAll(): Promise<Map<string, T>>
  /** The names alone, which costs no reading. */
  names(): Promise<string[]>
  write(name: string, record: T): Promise<void>
  clear(name: string): Promise<void>
}

/** Records in the files `<folder>/<name>.json`. Throws `failed` for a file that does not hold such a record. */
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
  return {
    read,
    names,
    readAll: async () => {
      const all = new Map<string, v.InferOutput<S>>()
      for (const name of await names()) {
        const record = await read(name)
        if (record !== undefined) all.set(name, record)
      }
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

const fsTypeSchema = v.picklist(fsTypes)

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

const noteSchema = v.object({
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

/** The journal of a node, in `<volumesDir>/.elastic-local/intents`. */
export function buildJournal(volumesDir: string): Journal {
  const records = buildRecords(join(volumesDir, ownFolder, 'intents'), intentSchema)
  return {
    read: async () => {
      const all = await records.readAll()
      return new Map(
        [...all].map(([name, intent]) => [
          name,
          'sizeBytes' in intent ? { ...intent, sizeBytes: BigInt(intent.sizeBytes) } : intent,
        ]),
      )
    },
    write: async (name, intent) => {
      if (!('sizeBytes' in intent)) return await records.write(name, intent)
      await records.write(name, {
        ...intent,
        mkfsOptions: [...intent.mkfsOptions],
        sizeBytes: String(intent.sizeBytes),
      })
    },
    clear: records.clear,
  }
}
