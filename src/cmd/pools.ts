import { listPools } from '../inspect/actions.ts'
import { defineCommand } from './command.ts'
import { listFlags, showListing } from './listing.ts'
import { visitFlags, withKeeper } from './visit.ts'

export const poolsCommand = defineCommand({
  name: 'pools',
  group: 'Look into volumes',
  summary: "Show what this node's volumes are cut from, and what is left",
  description:
    'ALLOCATED is what volumes have, FREE the largest volume that could be made now. Of a thin pool, DATA% and\n' +
    'META% are what is written; when either is full, writes fail.',
  examples: ['elastic-local pools', 'elastic-local pools -o json | jq -r ".pools[].freeBytes"'],
  flags: { ...listFlags, ...visitFlags },
  run: async (call) => await withKeeper(call, false, (visit) => showListing(call, () => listPools(visit))),
})
