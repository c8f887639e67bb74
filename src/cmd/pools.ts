import { listPools } from '../inspect/actions.ts'
import { defineCommand } from './command.ts'
import { listFlags, showListing } from './listing.ts'
import { visitFlags, withKeeper } from './visit.ts'

export const poolsCommand = defineCommand({
  name: 'pools',
  group: 'Inspect volumes',
  summary: "Show this node's pool: its size, what is allocated, and what is free",
  description:
    'ALLOCATED is what volumes have, FREE the largest volume that could be created now. For a thin pool, DATA% and\n' +
    'META% are what is written; when either is full, writes fail.',
  examples: ['elastic-local pools', 'elastic-local pools -o json | jq -r ".pools[].freeBytes"'],
  flags: { ...listFlags, ...visitFlags },
  run: async (call) => await withKeeper(call, false, (visit) => showListing(call, () => listPools(visit))),
})
