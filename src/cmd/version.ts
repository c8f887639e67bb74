import { buildInfo } from './build-info.ts'
import { defineCommand } from './command.ts'
import { outputFlag } from './flags.ts'

export const versionCommand = defineCommand({
  name: 'version',
  group: 'About',
  summary: 'Print version, commit, Node version and architecture',
  examples: ['elastic-local version', 'elastic-local version -o json'],
  flags: { output: outputFlag('text', 'json') },
  async run({ flags, say }) {
    const info = { ...buildInfo, node: process.versions.node, arch: process.arch }
    if (flags.output === 'json') say(JSON.stringify(info))
    else say(`elastic-local ${info.version}, commit ${info.commit}, Node ${info.node}, ${info.arch}`)
  },
})
