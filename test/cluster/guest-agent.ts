/** Runs in a guest and makes it a node: its folders, its programs, and a way in for the test. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, openSync } from 'node:fs'
import { mkdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { text } from 'node:stream/consumers'
import { setTimeout as sleep } from 'node:timers/promises'
import { CommandError, commandEnv, run } from '../../src/run.ts'
import { type AgentRequest, type AgentSettings, agentSettingsFile, type Kept } from './guest-settings.ts'

const settings = JSON.parse(await readFile(agentSettingsFile, 'utf8')) as AgentSettings
const state = '/mnt/state'

/** Runs a program again whenever it ends, as a service manager does; its output goes to a file in the scratch folder. */
async function keep({ name, command: [file = '', ...args] }: Kept): Promise<never> {
  for (;;) {
    const log = openSync(`${name}.log`, 'a')
    const child = spawn(file, args, { env: commandEnv(), stdio: ['ignore', log, log] })
    await Promise.race([once(child, 'exit'), once(child, 'error')])
    await sleep(200)
  }
}

for (const folder of settings.hostFolders.filter((folder) => !existsSync(folder))) {
  await mkdir(folder, { recursive: true })
  await run('mount', ['--bind', `/run/machine${folder}`, folder])
}
await mkdir(state)
await run('mount', ['/dev/vdb', state])
for (const [path, name] of Object.entries(settings.keptFolders)) {
  await mkdir(`${state}/${name}`, { recursive: true })
  await mkdir(path, { recursive: true })
  await run('mount', ['--bind', `${state}/${name}`, path])
  await run('mount', ['--make-rshared', path])
}
await run('sh', ['-e', '-c', settings.setup])
keep({ name: 'kubelet', command: settings.kubelet })

const server = createServer(async (request, response) => {
  const asked = JSON.parse(await text(request)) as AgentRequest
  if ('keep' in asked) {
    keep(asked.keep)
    return response.end('{}')
  }
  try {
    response.end(JSON.stringify(await run(asked.run.file, asked.run.args)))
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    response.end(JSON.stringify(error))
  }
})
server.listen(settings.port, settings.address, () => process.stdout.write('serving\n'))
