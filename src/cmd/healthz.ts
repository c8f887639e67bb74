import { request } from '../daemon/client.ts'
import { defineCommand } from './command.ts'
import { socketFlag } from './flags.ts'

/** Asks on the socket, which is what the flex driver uses as well. */
const probe = (name: 'healthz' | 'readyz', summary: string) =>
  defineCommand({
    name,
    group: 'Look into volumes',
    summary,
    description: 'Exits 0 when the answer is yes, and 1 with the reason when it is not.',
    examples: [`elastic-local ${name} --socket /tmp/socket`],
    flags: { socket: socketFlag },
    run: async ({ flags, say }) => {
      const { statusCode, body } = await request({ socketPath: flags.socket, method: 'GET', path: `/${name}` })
      say(JSON.stringify(body))
      return statusCode === 200 ? 0 : 1
    },
  })

export const healthzCommand = probe('healthz', 'Ask the daemon or the provisioner whether it is alive, for a probe')

export const readyzCommand = probe(
  'readyz',
  'Ask the daemon or the provisioner whether it can do its work, for a probe',
)
