/** How a link of a chain is put together, whichever it is. */
import type { ClusterFacts, Kind } from '../facts.ts'
import type { Link, LinkName, Problem } from '../records.ts'

export const link = (
  name: LinkName,
  status: Link['status'],
  message: string,
  more: { details?: string[]; advice?: string } = {},
): Link => ({ link: name, status, message, ...more })

/** A link that depends on a kind which was not read. */
export function unread({ notRead }: ClusterFacts, name: LinkName, kind: Kind): Link | undefined {
  const why = notRead.get(kind)
  return why === undefined ? undefined : link(name, 'open', `not checked: ${why}`)
}

/** A link that does not hold because of that. */
export const ofProblem = (name: LinkName, problem: Problem): Link => ({ link: name, ...problem })
