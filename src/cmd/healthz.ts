import { request } from '../daemon/client.ts'
import { defineCommand } from './command.ts'
import { socketFlag } from './flags.ts'

/** Asks on the socket, which is what the flex driver uses as well. */
const probe = (name: 'healthz' | 'readyz', summary: string) =>
  defineCommand({
    name,
    group: 'Inspect volumes',
    summary,
    description: 'Exits with 0 if it is, and with 1 and the reason if not.',
    examples: [`elastic-local ${name} --socket /tmp/socket`],
    flags: { socket: socketFlag },
    run: async ({ flags, say }) => {
      const { statusCode, body } = await request({ socketPath: flags.socket, method: 'GET', path: `/${name}` })
      say(JSON.stringify(body))
      return statusCode === 200 ? 0 : 1
    },
  })

export const healthzCommand = probe('healthz', 'Ask the daemon or the provisioner whether it is alive, for a probe')

export const readyzCommand = probe('readyz', 'Ask the daemon or the provisioner whether it is ready, for a probe')
