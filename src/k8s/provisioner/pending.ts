import { decideClaim } from '../model/claim.ts'
import { volumeNameOf } from '../model/persistent-volume.ts'
import type { Copies } from './copies.ts'

/**
 * How far claims of ours are that have no volume to use yet. `scheduling`: no node was chosen, as no pod wants it or no
 * node has room; `placing`: it waits for its PV; `binding`: for the controller manager; `making`: for its node's daemon.
 */
export const stages = ['scheduling', 'placing', 'binding', 'making'] as const
export type Stage = (typeof stages)[number]

export interface Pending {
  claims: number
  /** When the oldest of them was created, in seconds since 1970; 0 when there is none. */
  oldest: number
}

/** Counts the claims of each stage, as the copies have them. */
export function countPending({ claims, classes, volumes, ledgers }: Copies): Record<Stage, Pending> {
  const counts = Object.fromEntries(stages.map((stage) => [stage, { claims: 0, oldest: 0 }])) as Record<Stage, Pending>
  const count = (stage: Stage, created: number) => {
    const pending = counts[stage]
    pending.claims += 1
    pending.oldest = pending.oldest === 0 ? created : Math.min(pending.oldest, created)
  }
  for (const claim of claims.objects.values()) {
    const storageClass = classes.objects.get(claim.className)
    if (!storageClass || claim.volumeName || claim.isDeleting) continue
    if (volumes.objects.has(volumeNameOf(claim.uid))) count('binding', claim.created)
    else count(decideClaim(claim, storageClass).kind === 'none' ? 'scheduling' : 'placing', claim.created)
  }
  for (const { entries } of ledgers.objects.values())
    for (const { pendingFor } of entries.values()) {
      const claim = pendingFor && claims.objects.get(pendingFor)
      if (claim && claim.volumeName !== '') count('making', claim.created)
    }
  return counts
}

/** Counts the volumes whose node is gone: there is no Node object of that name. */
export function countStranded({ volumes, nodes }: Pick<Copies, 'volumes' | 'nodes'>): number {
  if (!nodes.isSynced) return 0
  return volumes.objects
    .values()
    .filter(({ node }) => node !== '' && !nodes.objects.has(node))
    .toArray().length
}
