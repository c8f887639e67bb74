/** Writes docs/reference.md from the definitions in the code; `make docs`. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { parameterNames } from '../../k8s/model/claim.ts'
import { finalizer, makeAnewAnnotation, nodeLabel, provisionerNames } from '../../k8s/model/names.ts'
import { commonMountOptions, ownMountOptions } from '../../volume/options.ts'
import { driverKinds, fsTypes } from '../../volume/pool.ts'
import type { Command } from '../command.ts'
import { commonFlags, type Flag, machineFlags } from '../flags.ts'
import { usage } from '../help.ts'
import { elasticLocal, kubectlPlugin } from '../programs.ts'

const kinds = driverKinds.map((kind) => `\`${kind}\``).join(', ')
const filesystems = fsTypes.map((type) => `\`${type}\``).join(', ')

const parameters: Record<(typeof parameterNames)[number], string> = {
  fsType: `${filesystems}; the first is the default`,
  'csi.storage.k8s.io/fstype': 'the same, under the name that CSI drivers have for it',
  mkfsOptions: 'flags for mkfs, such as `-i 8192`; none that reach beyond the device',
  driverKind: `only nodes with a pool of that kind: ${kinds}`,
  pool: 'only nodes with the pool of that name, as `elastic-local pools` shows it',
  front: 'the protocol by which kubelets mount its volumes: `flex`, or `csi`; only on nodes whose daemon serves it',
}

const options = {
  sizeBytes: 'size in bytes, a decimal text; rounded up to whole extents',
  'kubernetes.io/fsType': `${filesystems}; set by the kubelet from \`fsType\``,
  mkfsOptions: 'as above',
  mountOptions: 'comma list, such as `noatime,discard`; the `mountOptions` of the class',
  'kubernetes.io/readwrite': '`ro` or `rw`; set by the kubelet',
  key: 'what tells pods with the claim from others ([decision 7](decisions/0007-who-may-mount.md))',
}

const objects = {
  [`label \`${nodeLabel}\` of a PersistentVolume`]: "the volume's node",
  [`finalizer \`${finalizer}\` of a PersistentVolume`]: 'holds it until its data is removed',
  [`annotation \`${makeAnewAnnotation}=true\` of a PersistentVolume`]:
    'set by you: the volume, whose data is lost, may be recreated, empty',
  '`provisioner` of a StorageClass': provisionerNames.map((name) => `\`${name}\``).join(", or the predecessor's "),
}

/** The page, in Markdown. */
export function buildReference(): string {
  const { commands } = elasticLocal
  const pluginCommands = kubectlPlugin.commands.filter((command) => !commands.includes(command))
  return `<!-- Made by "make docs" from src/cmd: change it there. -->
# Reference

Exit codes: 0 done, 1 failed (of \`doctor\` and \`explain\`: something is wrong; of \`healthz\`: unhealthy), 2 the command line is wrong.
The flex driver has its own: [flex.md](flex.md).

## Commands

${commands.map((command) => describeCommand(command)).join('\n\n')}

## Commands for a whole cluster

[kubectl.md](kubectl.md) has more of them.

${pluginCommands.map((command) => describeCommand(command, `${kubectlPlugin.name} `)).join('\n\n')}

## Flags

A flag on the command line goes before its environment variable, and that before the default. In \`deploy.yaml\`, set the
variable. The flags of the pool, which must be the same for all commands on a node:

${flagTable(poolFlags)}

The others:

${flagTable(collectFlags([...commands, ...pluginCommands]).filter(({ name }) => !poolFlags.some((flag) => flag.name === name)))}

## Parameters of a StorageClass

${table(
  ['parameter', 'meaning'],
  Object.entries(parameters).map(([name, meaning]) => [`\`${name}\``, meaning]),
)}

\`mountOptions\` of the class become an option of the PersistentVolume; these may be in it, and no others:

${table(
  ['filesystem', 'mount options'],
  [
    ['all', list(commonMountOptions)],
    ...Object.entries(ownMountOptions).map(([type, names]) => [`\`${type}\``, list(names)]),
  ],
)}

\`volumeBindingMode\`, \`reclaimPolicy\`, \`allowVolumeExpansion\` and \`allowedTopologies\` work as Kubernetes has them.

## Options of a volume

As the FlexVolume source of a PersistentVolume holds them:

${table(
  ['option', 'meaning'],
  Object.entries(options).map(([name, meaning]) => [`\`${name}\``, meaning]),
)}

## Marks on objects

${table(['mark', 'meaning'], Object.entries(objects))}
`
}

const poolFlags: readonly Flag[] = Object.values(machineFlags)

const list = (names: readonly string[]) => names.map((name) => `\`${name}\``).join(' ')

function describeCommand(command: Command, prefix = ''): string {
  const all: Flag[] = Object.values(command.flags)
  const isPoolFlag = ({ name }: Flag) => poolFlags.some((flag) => flag.name === name)
  const usesPool = all.filter(isPoolFlag).length === poolFlags.length
  const flags = [
    ...all
      .filter((flag) => !usesPool || !isPoolFlag(flag))
      .map(({ name, short }) => `\`${short ? `-${short}, ` : ''}--${name}\``),
    ...(usesPool ? ['and those of the pool'] : []),
  ]
  return [
    `### \`${prefix}${usage(command)}\``,
    `${command.summary}.${command.aliases?.length ? ` Also \`${command.aliases.join('`, `')}\`.` : ''}`,
    ...(command.description ? [command.description] : []),
    ...(flags.length > 0 ? [`Flags: ${flags.join(', ')}.`] : []),
    command.examples.map((example) => `    ${example}`).join('\n'),
  ].join('\n\n')
}

/** Each flag once; two commands may have flags of one name that mean different things. */
function collectFlags(commands: readonly Command[]): Flag[] {
  const flags = [...Object.values(commonFlags), ...commands.flatMap((command) => Object.values(command.flags))]
  const byMeaning = new Map(flags.map((flag) => [`${flag.name}\0${flag.help}`, flag]))
  return [...byMeaning.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
}

function describeFlag(flag: Flag): string[] {
  const standard = flag.defaultHelp ?? (flag.default === undefined ? '' : `\`${flag.default}\``)
  return [
    `\`--${flag.name}${flag.value ? ` ${flag.value}` : ''}\``,
    flag.env.map((name) => `\`${name}\``).join(' '),
    standard,
    flag.help,
    flag.mustBe.replaceAll('<', '&lt;'),
  ]
}

function flagTable(flags: readonly Flag[]): string {
  return table(['flag', 'variable', 'default', 'meaning', 'must be'], flags.map(describeFlag))
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}

/** Where the page is. */
export const referencePath = join(import.meta.dirname, '../../../docs/reference.md')

if (import.meta.main) await writeFile(referencePath, buildReference())
