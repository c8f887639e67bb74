import { homedir } from 'node:os'
import { join } from 'node:path'

/** What is kept from one time to the next, outside the tree. */
export const cacheFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'elastic-local')
