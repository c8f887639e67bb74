import { request } from '../daemon/client.ts'
import { logLevels } from '../log.ts'
import { defineCommand } from './command.ts'
import { socketFlag } from './flags.ts'
import { UsageError } from './usage-error.ts'

export const logLevelCommand = defineCommand({
  name: 'log-level',
  group: 'Inspect volumes',
  args: '[level]',
  argValues: logLevels,
  summary: 'Show or change the log level of a running daemon or provisioner',
  description: `Lasts until that exits. The levels are ${logLevels.join(', ')}; debug logs every command, request and call-out.`,
  examples: ['elastic-local log-level debug', 'elastic-local log-level --socket /tmp/socket'],
  flags: { socket: socketFlag },
  run: async ({ args: [level], flags, say }) => {
    if (level !== undefined && !logLevels.some((known) => known === level))
      throw new UsageError(
        `Cannot use the level ${JSON.stringify(level)} as it must be one of ${logLevels.join(', ')}.`,
      )
    const { statusCode, body } = await request({
      socketPath: flags.socket,
      path: '/v1/log-level',
      ...(level === undefined ? { method: 'GET' } : { method: 'POST', body: { level } }),
    })
    if (statusCode !== 200) throw new Error(`Cannot change the level: it answered ${JSON.stringify(body)}.`)
    say((body as { level: string }).level)
  },
})
