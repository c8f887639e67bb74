import { request } from '../daemon/client.ts'
import { defineCommand } from './command.ts'
import { socketFlag } from './flags.ts'

export const healthzCommand = defineCommand({
  name: 'healthz',
  group: 'Look into volumes',
  summary: 'Ask the daemon or the provisioner whether it is alive, for a probe',
  description: 'Exits 0 when it answers, and 1 with the reason when it does not.',
  examples: ['elastic-local healthz --socket /tmp/socket'],
  flags: { socket: socketFlag },
  run: async ({ flags, say }) => {
    const { statusCode, body } = await request({ socketPath: flags.socket, method: 'GET', path: '/healthz' })
    say(JSON.stringify(body))
    return statusCode === 200 ? 0 : 1
  },
})
