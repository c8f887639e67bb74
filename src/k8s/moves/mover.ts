import { randomBytes, randomUUID } from 'node:crypto'
import type { V1PersistentVolume } from '@kubernetes/client-node'
import { messageOf } from '../../volume/errors.ts'
import { type Api, delayAfter, listPages } from '../client/api.ts'
import type { Clock } from '../client/clock.ts'
import type { FrontName } from '../fronts/front.ts'
import { readVolume, volumesPath } from '../model/lookups.ts'
import type { ProjectName } from '../model/origin.ts'
import { pickVolume } from '../model/persistent-volume.ts'
import { mayPass, OneMove, type OneMoveParts, type Result } from './one-move.ts'
import { projects } from './projects.ts'
import { readMoves } from './record.ts'

export interface MoverParts extends Omit<OneMoveParts, 'by' | 'key'> {
  clock: Clock
  /** What others are to do is looked for so often. */
  lookMs?: number
  /** How long others, or the API server, may take. */
  patienceMs?: number
}

const usualLookMs = 250
const usualPatienceMs = 60_000
const longestBackoffMs = 5_000
const never = new AbortController().signal

/** Moves volumes from one front to the other, in place, or adopts those of another project. */
export class Mover {
  readonly #parts: MoverParts
  readonly #by = randomUUID()

  constructor(parts: MoverParts) {
    this.#parts = parts
  }

  /** Why a volume would not be moved now; nothing where it would be. */
  async look(name: string): Promise<string | undefined> {
    const { api } = this.#parts
    const volume = await readVolume(api, name)
    return volume ? await this.#one(name).findObstacle(volume) : 'there is no PersistentVolume for it'
  }

  /**
   * Moves one volume, or goes on with that; one whose move the other way was begun is moved there first. Throws where it
   * cannot be brought to its end now: it is to be called again.
   */
  async move(name: string): Promise<Result> {
    const { clock, lookMs = usualLookMs, patienceMs = usualPatienceMs } = this.#parts
    const one = this.#one(name)
    let wentAt = clock.now()
    let failures = 0
    for (;;) {
      const isLate = () => clock.now() - wentAt >= patienceMs
      try {
        const step = await one.step()
        failures = 0
        if (step === 'went') wentAt = clock.now()
        else if ('outcome' in step) return step
        else if (!isLate()) await clock.sleep(lookMs, never)
        else if (step.giveUp) {
          step.giveUp(`${step.waitsFor} takes too long`)
          wentAt = clock.now()
        } else throw new Error(`${step.waitsFor} takes too long`)
      } catch (error) {
        if (!mayPass(error, one.isBegun) || isLate()) throw one.isBegun ? notEnded(name, error) : error
        failures += 1
        const backoffMs = Math.min(lookMs * 2 ** failures, longestBackoffMs)
        await clock.sleep(delayAfter(error, backoffMs, longestBackoffMs), never)
      }
    }
  }

  #one(name: string): OneMove {
    return new OneMove({ ...this.#parts, by: this.#by, key: randomBytes(16).toString('hex') }, name)
  }
}

function notEnded(name: string, error: unknown): Error {
  const message = `Cannot finish the move of ${name} now: ${messageOf(error)}. Its record is kept: run the command again.`
  return new Error(message, { cause: error })
}

/** A volume that may be moved, or adopted. */
export interface Movable {
  name: string
  claim: { namespace: string; name: string }
  /** Its front now; nothing while it has no PV, and where it is not ours. */
  front?: FrontName
  /** Whose it is, where it is another project's. */
  from?: ProjectName
  /** When its move was begun, if it was. */
  begunAt?: Date
}

/**
 * The volumes that claims in that namespace have, or in all, in the order of their claims; and what is wrong with records. One that
 * is kept after its claim is nobody's, and there may be several for claims of one name. `from`: with
 * those of that project.
 */
export async function findMovable(
  api: Api,
  namespace: string,
  { within, from }: { within: string | undefined; from?: ProjectName },
): Promise<{ volumes: Movable[]; wrongs: string[] }> {
  const [known, { moves, wrongs }] = await Promise.all([readAll(api, from), readMoves(api, namespace)])
  const found = new Map(known.map((volume) => [volume.name, volume]))
  for (const { name, facts, begunAt, from: its } of moves) {
    found.set(name, { name, claim: facts.claim, ...found.get(name), ...(its ? { from: its } : {}), begunAt })
  }
  const keyOf = ({ claim }: Movable) => `${claim.namespace}/${claim.name}`
  const volumes = [...found.values()]
    .filter(({ claim }) => within === undefined || claim.namespace === within)
    .sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
  return { volumes, wrongs }
}

/** PVs of ours that have claims, and those of that project. */
async function readAll(api: Api, from: ProjectName | undefined): Promise<Movable[]> {
  const found: Movable[] = []
  for await (const { items } of listPages<V1PersistentVolume>(api, volumesPath))
    for (const volume of items) {
      const { namespace, name } = volume.spec?.claimRef ?? {}
      const front = pickVolume(volume)?.front
      const whose = front ? { front } : from && projects[from].isIts(volume) ? { from } : undefined
      if (!namespace || !name || !whose || volume.status?.phase === 'Released') continue
      found.push({ name: volume.metadata?.name ?? '', claim: { namespace, name }, ...whose })
    }
  return found
}
