import type { V1Pod } from '@kubernetes/client-node'
import type { Log } from '../../log.ts'
import type { Api } from '../client/api.ts'
import { Reflector } from '../client/reflector.ts'
import { type PodFacts, pickPod } from '../model/pod.ts'

/**
 * The pods that the scheduler has still to place, by the claims that they use. Without the right to list pods there are
 * none, and each claim is seen alone.
 */
export class UnscheduledPods {
  readonly #pods: Reflector<V1Pod, PodFacts>
  /** Keys of pods by `namespace/claim`. */
  readonly #byClaim = new Map<string, Set<string>>()

  constructor({ api, log }: { api: Api; log: Pick<Log, 'warn'> }) {
    const query = { fieldSelector: 'spec.nodeName=' }
    this.#pods = new Reflector({ api, log, path: '/api/v1/pods', query, pick: pickPod })
    this.#pods.onChange((key, now, before) => {
      for (const claim of claimsOf(before)) this.#forget(claim, key)
      for (const claim of claimsOf(now)) this.#byClaim.set(claim, (this.#byClaim.get(claim) ?? new Set()).add(key))
    })
  }

  /** Follows the cluster until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#pods.run(signal)
  }

  /** Resolves when they are known, or it is known that they may not be. */
  async attempted(): Promise<void> {
    await this.#pods.attempted()
  }

  /** Whether they are known: they may be listed. */
  get isKnown(): boolean {
    return this.#pods.isSynced
  }

  /** Those that use a claim, as `namespace/name`. */
  using(claim: string): PodFacts[] {
    const pods = [...(this.#byClaim.get(claim) ?? [])].map((key) => this.#pods.objects.get(key))
    return pods.filter((pod) => pod !== undefined)
  }

  /** All claims of the pods that use a claim, that one among them; none where no pod waits for it. */
  sharing(claim: string): Set<string> {
    return new Set(this.using(claim).flatMap((pod) => claimsOf(pod)))
  }

  #forget(claim: string, pod: string): void {
    const pods = this.#byClaim.get(claim)
    pods?.delete(pod)
    if (pods?.size === 0) this.#byClaim.delete(claim)
  }
}

function claimsOf(pod: PodFacts | undefined): string[] {
  return pod?.claims.map((claim) => `${pod.namespace}/${claim}`) ?? []
}
