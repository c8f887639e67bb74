/** Making volumes on LVM, in a guest: through the pool, by one `lvcreate` process each, and by a bare `lvm` shell. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createDisk, runInGuest } from '../test/guest/guest.ts'

const scratchDir = await mkdtemp(join(tmpdir(), 'elastic-local-bench-'))
try {
  const disk = join(scratchDir, 'disk.img')
  await createDisk(disk, 16 * 2 ** 30)
  const program = join(import.meta.dirname, 'lvm-guest.ts')
  const onOutput = (text: string) => process.stdout.write(text)
  const { exitCode } = await runInGuest({ disk, scratchDir, program, timeoutMs: 30 * 60_000, onOutput })
  process.exitCode = exitCode
} finally {
  await rm(scratchDir, { recursive: true, force: true })
}
