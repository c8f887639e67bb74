import { notReachedMessage } from '../overview/chain/chain.ts'
import type { Chain } from '../overview/records.ts'
import { type ChecklistItem, type ChecklistLook, formatChecklist } from '../text/checklist.ts'

/** Chains for a person to read, each under what it is about. */
export function formatChains(chains: readonly Chain[], look: ChecklistLook): string {
  return chains
    .map((chain) => `${look.paint('bold', titleOf(chain))}\n${formatChecklist(itemsOf(chain), look)}`)
    .join('\n')
}

/** The links, those that are not reached in one line. */
function itemsOf({ links }: Chain): ChecklistItem[] {
  const missed = links.filter(({ message }) => message === notReachedMessage)
  return links
    .filter((link) => !missed.slice(1).includes(link))
    .map((link) =>
      link === missed[0]
        ? { title: notReachedMessage, status: 'open', message: missed.map(({ link }) => link).join(', ') }
        : { ...link, title: link.link },
    )
}

function titleOf({ claim, volume, node }: Chain): string {
  const subject = claim
    ? `claim ${claim.namespace}/${claim.name}`
    : volume
      ? `volume ${volume}`
      : 'a volume without a claim'
  const place = [...(claim && volume ? [`volume ${volume}`] : []), ...(node ? [`node ${node}`] : [])]
  return [subject, ...place].join(', ')
}
