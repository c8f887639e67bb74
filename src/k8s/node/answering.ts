import { isDeepStrictEqual } from 'node:util'
import { codeOf, messageOf } from '../../volume/errors.ts'
import { answered, type Entry, mustBeItsPool, type Question } from '../model/ledger.ts'
import { parseOrigin } from '../model/origin.ts'
import type { NodeContext } from './context.ts'
import type { HeldVolume } from './held-volumes.ts'

/** Says of what other projects made here whether it can be adopted, where somebody asks that in the ledger; changes nothing of it. */
export class Answering {
  readonly #context: NodeContext

  constructor(context: NodeContext) {
    this.#context = context
  }

  async answer(held: HeldVolume): Promise<void> {
    const question = openQuestion(held.entry)
    if (!question) return
    const answer = await this.#look(held.name, question).catch((error) => ({
      code: codeOf(error),
      why: messageOf(error),
    }))
    await held.changeEntry((now) =>
      now && isDeepStrictEqual(now.question, question) ? answered(now, question, answer) : now,
    )
  }

  async #look(name: string, { origin, fsType }: Question): Promise<{ foundBytes: bigint }> {
    const { engine, ledger } = this.#context.parts
    if (ledger.latest) mustBeItsPool(ledger.latest, await engine.report())
    const { sizeBytes } = await engine.examine(name, fsType, parseOrigin(origin, name).name)
    return { foundBytes: sizeBytes }
  }
}

/** What is asked of a daemon and not answered yet. */
export function openQuestion(entry: Entry | undefined): Question | undefined {
  return entry?.question?.answer === undefined ? entry?.question : undefined
}
