import { basename, dirname } from 'node:path'
import { runFlexDriver } from './flex/driver.ts'
import { isFlexVerb } from './flex/protocol.ts'

/*
 * Everything imported above is in the small bundle that every role compiles; ./cmd/cli.ts and all it needs is in the
 * other, which build.mjs embeds as an asset, so that a call-out of the kubelet starts as fast as Node itself.
 */
const args = process.argv.slice(2)
const driverFolder = [process.argv0, process.execPath].map(dirname).find((folder) => folder.endsWith('~elastic-local'))
const called = basename(process.argv0)

// A plugin of kubectl is never asked by a kubelet.
if (driverFolder !== undefined || (isFlexVerb(args[0]) && !called.startsWith('kubectl'))) {
  runFlexDriver(args, driverFolder)
} else {
  runCommandLine()
}

async function runCommandLine(): Promise<void> {
  // Without the line of source that Node shows, which is all of the minified bundle.
  process.on('uncaughtException', (error) => {
    process.stderr.write(`elastic-local: a bug: ${error instanceof Error ? error.stack : error}\n`)
    process.exit(1)
  })
  const { runCli } = await import('./cmd/cli.ts')
  process.exitCode = await runCli(args, { called })
}
