import { randomUUID } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { VolumeError } from '../volume/errors.ts'
import { buildRecords, ownFolder, type Records } from './records.ts'

const idSchema = v.object({ id: v.string() })

/**
 * The folder that a pool keeps its volumes in, with an id of its own in `.elastic-local/pool/pool.json`, given when it is first
 * opened. Where its disk is not mounted any more, another folder is seen in its place, mostly an empty one: it has another
 * device or inode, and not that id.
 */
export class PoolFolder {
  readonly path: string
  readonly #records: Records<{ id: string }>
  #id: string | undefined
  #seen: { dev: bigint; ino: bigint } | undefined

  constructor(path: string) {
    this.path = path
    this.#records = buildRecords(join(path, ownFolder, 'pool'), idSchema)
  }

  /** Missing before it was opened. */
  get id(): string | undefined {
    return this.#id
  }

  async open(): Promise<void> {
    this.#seen = await this.#look()
    this.#id = (await this.#records.read('pool'))?.id
    if (this.#id) return
    const id = randomUUID()
    await this.#records.write('pool', { id })
    this.#id = id
  }

  /** Why it is not there now, if so; nothing where nobody opened it. */
  async findProblem(): Promise<string | undefined> {
    if (!this.#id || !this.#seen) return undefined
    const now = await this.#look()
    if (now?.dev === this.#seen.dev && now.ino === this.#seen.ino) return undefined
    // Mounted again, the disk may have another number.
    if (now && (await this.#records.read('pool'))?.id === this.#id) {
      this.#seen = now
      return undefined
    }
    return `what is at ${this.path} is not the folder that the daemon was started with (pool ${this.#id}): its disk is no longer mounted there; mount it again`
  }

  /** Throws `unavailable`. */
  async mustBeThere(): Promise<void> {
    const problem = await this.findProblem()
    if (problem) throw new VolumeError('unavailable', `Cannot use volumes on this node as ${problem}.`)
  }

  async #look() {
    return await stat(this.path, { bigint: true }).catch(() => undefined)
  }
}
