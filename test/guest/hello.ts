/** Runs in a guest: whether guests work on this machine, in the least that tests need of them. */
import { run } from '../../src/run.ts'

await run('pvcreate', ['--quiet', '/dev/vda'])
await run('vgcreate', ['--quiet', 'hello', '/dev/vda'])
await run('lvcreate', ['--quiet', '--name=hello', '--size=8m', 'hello'])
