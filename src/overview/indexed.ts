import type { ClusterFacts } from './facts.ts'

/**
 * What is worked out from all facts, once for all who ask for it, as facts do not change: with thousands of volumes,
 * nobody may go through all pods, events and ledgers for each.
 */
export function indexed<T>(build: (facts: ClusterFacts) => T): (facts: ClusterFacts) => T {
  const known = new WeakMap<ClusterFacts, { value: T }>()
  return (facts) => {
    let found = known.get(facts)
    if (!found) {
      found = { value: build(facts) }
      known.set(facts, found)
    }
    return found.value
  }
}
