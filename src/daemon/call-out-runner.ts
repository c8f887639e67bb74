import type { Log } from '../log.ts'
import { type Observe, observed } from '../meter.ts'
import { codeOf, messageOf } from '../volume/errors.ts'
import type { Drain } from './drain.ts'
import type { Front } from './front.ts'

/** What a call-out is about, for the log. */
export interface Subject {
  volume?: string
  pod?: string | undefined
}

/** A call-out of the kubelet, of any protocol. */
export interface CallOut {
  /** Its kind, of which there are few: `mount`. */
  what: string
  /** How a person reads it: its kind as the protocol has it, and the place that it is about. */
  shown: string
}

export interface CallOutRunnerParts {
  drain: Drain
  front: Pick<Front, 'claimOf'>
  observe?: Observe
  log: Pick<Log, 'info' | 'warn'>
}

/** Does the work of a call-out. `work` says what it is about as soon as it knows. */
export type RunCallOut = <T>(callOut: CallOut, work: (about: Subject) => Promise<T>) => Promise<T>

/** Has a stop wait for call-outs, counts them, and says of each in the log how it ended. */
export function buildCallOutRunner({ drain, front, observe, log }: CallOutRunnerParts): RunCallOut {
  return async ({ what, shown }, work) =>
    await drain.run(async () => {
      const about: Subject = {}
      const beganAt = performance.now()
      const fields = () => {
        const claim = about.volume === undefined ? undefined : front.claimOf(about.volume)
        const tookMs = Math.round(performance.now() - beganAt)
        return { ...about, claim: claim && `${claim.namespace}/${claim.name}`, tookMs }
      }
      try {
        const answer = await observed(observe, { what }, () => work(about), codeOf)
        log.info(`${shown}: done`, fields())
        return answer
      } catch (error) {
        log.warn(`${shown}: ${messageOf(error)}`, fields())
        throw error
      }
    })
}
