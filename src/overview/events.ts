import type { ClusterFacts, EventFacts } from './facts.ts'
import { indexed } from './indexed.ts'

/** What still goes on is said again within two minutes, by the daemon and by the kubelet; what is older is over. */
const freshMs = 3 * 60_000

type Whose = Pick<EventFacts, 'kind' | 'name'> & { namespace?: string; uid?: string }

const eventsOfObjects = indexed(({ events }) => Map.groupBy(events, ({ kind, name }) => `${kind}/${name}`))

/** All warnings about objects of that kind and name, the newest first. */
export function warningsOf(facts: ClusterFacts, { kind, name }: Pick<Whose, 'kind' | 'name'>): readonly EventFacts[] {
  return eventsOfObjects(facts).get(`${kind}/${name}`) ?? []
}

/** The newest warning about an object that is as wanted, whenever it was said. */
export function findWarning(
  facts: ClusterFacts,
  whose: Whose,
  isWanted: (event: EventFacts) => boolean,
): EventFacts | undefined {
  return warningsOf(facts, whose).find(
    (event) =>
      (whose.namespace === undefined || event.namespace === whose.namespace) &&
      // An object that was recreated has the name, and not the events, of the one before.
      (whose.uid === undefined || event.uid === whose.uid) &&
      isWanted(event),
  )
}

/** The same, if it was said so lately that it still holds. */
export function findFreshWarning(
  facts: ClusterFacts,
  whose: Whose,
  isWanted: (event: EventFacts) => boolean,
  forMs = freshMs,
): EventFacts | undefined {
  const found = findWarning(facts, whose, isWanted)
  return found && facts.readAt.getTime() - found.at.getTime() < forMs ? found : undefined
}

/** Whether a warning has one of these reasons. */
export const because =
  (...reasons: string[]) =>
  ({ reason }: EventFacts) =>
    reasons.includes(reason)
