/** Puts scratch folders into memory, where fsync(2) costs nothing, if this machine has a place for that. */
import { existsSync } from 'node:fs'

// The runner's place is looked through for what a job leaves.
const place = process.env.TEST_MEMORY ?? '/dev/shm'
if (existsSync(place)) process.env.TMPDIR = place
