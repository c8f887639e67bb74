import { readdirSync } from 'node:fs'

/** What this process takes of its machine, each looked up by itself: a read, which never waits. */
export const processFigures = {
  cpuSeconds: () => {
    const { user, system } = process.cpuUsage()
    return (user + system) / 1e6
  },
  startSeconds: () => performance.timeOrigin / 1000,
  residentBytes: () => process.memoryUsage.rss(),
  heapBytes: () => process.memoryUsage().heapUsed,
  openFiles: () => readdirSync('/proc/self/fd').length,
} as const
