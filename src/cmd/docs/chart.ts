/** Writes the schema of the chart's values and docs/helm.md, from the flags and charts/elastic-local/values.yaml; `make docs`. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isCollection, isMap, isScalar, parseDocument, type YAMLMap } from 'yaml'
import { parameterNames } from '../../k8s/model/claim.ts'
import { commonFlags, type Flag, type Flags, type JsonSchema } from '../flags.ts'
import { daemonCommand } from '../roles/daemon.ts'
import { provisionerCommand } from '../roles/provisioner.ts'

/** Flags that the chart sets by itself, and why. */
const decided = {
  daemon: {
    nodeName: 'the Node that the pod is on',
    namespace: 'that of the release',
    kubeconfig: "the pod's service account",
    standalone: 'there is a cluster',
  },
  provisioner: {
    socket: 'nobody else uses it',
    namespace: 'that of the release',
    kubeconfig: "the pod's service account",
    page: 'value page.enabled, which gives it the rights as well',
  },
} as const

/** The flags that `settings` may have, by the names that they have there: `lvmVolumeGroup` is `--lvm-volume-group`. */
export const settings: Readonly<Record<keyof typeof decided, Flags>> = {
  daemon: without({ ...daemonCommand.flags, ...commonFlags }, decided.daemon),
  provisioner: without({ ...provisionerCommand.flags, ...commonFlags }, decided.provisioner),
}

function without(flags: Flags, names: Readonly<Record<string, string>>): Flags {
  const unknown = Object.keys(names).find((name) => !Object.hasOwn(flags, name))
  if (unknown) throw new Error(`Cannot leave out ${unknown} as it must be a flag`)
  return Object.fromEntries(Object.entries(flags).filter(([name]) => !Object.hasOwn(names, name)))
}

const text: JsonSchema = { type: 'string' }
const toggle: JsonSchema = { type: 'boolean' }
/** What Kubernetes looks into itself, which knows more of it than this version does. */
const anyObject: JsonSchema = { type: 'object' }
const objects: JsonSchema = { type: 'array', items: anyObject }
const texts: JsonSchema = { type: 'object', additionalProperties: text }
const oneOf = (...values: readonly string[]): JsonSchema => ({ enum: values })
const object = (properties: Readonly<Record<string, JsonSchema>>, ...required: readonly string[]): JsonSchema => ({
  type: 'object',
  additionalProperties: false,
  ...(required.length > 0 ? { required } : {}),
  properties,
})
const list = (items: JsonSchema): JsonSchema => ({ type: 'array', items })
const objectName: JsonSchema = { type: 'string', pattern: '^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$' }

const settingsSchema = (flags: Flags): JsonSchema =>
  object(Object.fromEntries(Object.entries(flags).map(([name, flag]) => [name, flagSchema(flag)])))

function flagSchema({ schema, values, help }: Flag): JsonSchema {
  return { description: help, ...(schema ?? (values ? { enum: values } : { type: 'string', minLength: 1 })) }
}

/** What daemon and provisioner have in common. */
const pods = (flags: Flags): Record<string, JsonSchema> => ({
  settings: settingsSchema(flags),
  nodeSelector: texts,
  affinity: object({ nodeAffinity: anyObject, podAffinity: anyObject, podAntiAffinity: anyObject }),
  tolerations: objects,
  priorityClassName: text,
  resources: object({ requests: anyObject, limits: anyObject, claims: objects }),
  updateStrategy: object({ type: text, rollingUpdate: anyObject }),
  podLabels: texts,
  podAnnotations: texts,
  env: list({ type: 'object', required: ['name'], properties: { name: text } }),
})

const daemon = {
  ...pods(settings.daemon),
  pluginDir: { type: 'string', pattern: '^/' },
  attach: toggle,
  hostIPC: toggle,
}

const group = object(
  {
    ...daemon,
    name: { type: 'string', pattern: '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$', not: { const: 'rest' } },
    nodeSelector: { ...texts, minProperties: 1 },
  },
  'name',
  'nodeSelector',
)

const storageClass = object(
  {
    name: objectName,
    annotations: texts,
    labels: texts,
    default: toggle,
    parameters: object(Object.fromEntries(parameterNames.map((name) => [name, text]))),
    mountOptions: list(text),
    reclaimPolicy: oneOf('Delete', 'Retain'),
    volumeBindingMode: oneOf('WaitForFirstConsumer', 'Immediate'),
    allowVolumeExpansion: toggle,
    allowedTopologies: objects,
  },
  'name',
)

/** The JSON schema of the chart's values. */
export const valuesSchema = {
  // Which every Helm 3 knows, too.
  $schema: 'http://json-schema.org/draft-07/schema#',
  ...object({
    global: anyObject,
    image: object({
      repository: { type: 'string', pattern: '^[a-zA-Z0-9][a-zA-Z0-9./:_-]*$' },
      tag: { type: 'string', pattern: '^([a-zA-Z0-9_][a-zA-Z0-9._-]{0,127})?$' },
      digest: { type: 'string', pattern: '^(sha256:[0-9a-f]{64})?$' },
      pullPolicy: oneOf('', 'Always', 'IfNotPresent', 'Never'),
    }),
    imagePullSecrets: list(object({ name: text }, 'name')),
    storageClasses: list(storageClass),
    daemon: object({ ...daemon, enabled: toggle, groups: list(group) }),
    provisioner: object({ ...pods(settings.provisioner), replicas: { type: 'integer', minimum: 1 } }),
    page: object({ enabled: toggle }),
    viewer: object({ enabled: toggle }),
    podMonitor: object({
      enabled: toggle,
      interval: { type: 'string', pattern: '^([0-9]+(ms|[smh]))+$' },
      labels: texts,
      metricRelabelings: objects,
    }),
    prometheusRule: object({ enabled: toggle, labels: texts }),
    dashboard: object({ enabled: toggle, labels: texts, annotations: texts }),
    networkPolicy: object({ enabled: toggle, from: objects }),
    resourceQuota: object({ enabled: toggle }),
    openshift: object({ enabled: toggle }),
  }),
}

/** A value that has a comment in values.yaml: the comment, and what is there, in one line. */
export interface Value {
  path: string
  default: string
  meaning: string
}

/** The values in the text of values.yaml. Throws where one has no comment. */
export function readValues(yaml: string): Value[] {
  const { contents, errors } = parseDocument(yaml)
  for (const error of errors) throw error
  return isMap(contents) ? collect(contents, '') : []
}

/** A map whose first entry has a comment of its own is looked into; anything else is one value. */
function collect(map: YAMLMap, prefix: string): Value[] {
  return map.items.flatMap(({ key, value }, index) => {
    if (!isScalar(key)) throw new Error(`Cannot read values.yaml as each key must be a text: ${key}`)
    const path = `${prefix}${key.value}`
    if (isMap(value) && isCommented(value)) return collect(value, `${path}.`)
    // That of the first key belongs to the map.
    const comment = key.commentBefore ?? (index === 0 ? map.commentBefore : undefined)
    if (!comment) throw new Error(`Cannot describe ${path} as values.yaml must have a comment above it`)
    const meaning = comment.trim().replace(/\s*\n\s*/g, ' ')
    const shown = isCollection(value) || isScalar(value) ? JSON.stringify(value.toJSON()) : ''
    return [{ path, default: shown, meaning }]
  })
}

const isCommented = (map: YAMLMap) => {
  const first = map.items[0]?.key
  return Boolean(map.commentBefore ?? (isScalar(first) ? first.commentBefore : undefined))
}

/** Of two groups, the text is what docs/helm.md shows. */
export const groupsExample = `daemon:
  groups:
    - name: fast
      nodeSelector: { disks: nvme }
      settings: { lvmVolumeGroup: fast }
    - name: images
      nodeSelector: { disks: none }
      settings: { driverKind: LOOP }
storageClasses:
  - name: elastic-local
    default: true
  - name: elastic-local-xfs
    parameters: { fsType: xfs, driverKind: LVM }
    reclaimPolicy: Retain
`

/** docs/helm.md, in Markdown. */
export function buildHelmPage(valuesYaml: string): string {
  return `<!-- Made by "make docs" from charts/elastic-local/values.yaml and src/cmd/docs/chart.ts: change it there. -->
# Helm

    helm install elastic-local charts/elastic-local --namespace elastic-local --create-namespace --set image.repository=registry.example.com/elastic-local
    helm test elastic-local --namespace elastic-local

The chart reads \`deploy.yaml\` and the files in \`config/\` themselves, so that it gives the same objects, changed by your values. A key or a
value that it does not know is refused by name before anything is done. \`helm test\` makes a claim of each class that deletes volumes, has a pod of our own image
write into its volume, and removes both. The tests run Helm 4.3; Helm 3.17 gave the same objects. Numbers with a fraction
need \`--set-json\` or a file.

\`helm upgrade\` replaces daemons and provisioners as described in [upgrade](upgrade.md); \`helm uninstall\` does not look for volumes:
[uninstall](uninstall.md).

## Values

${table(
  ['value', 'default', 'meaning'],
  readValues(valuesYaml).map(({ path, default: standard, meaning }) => [`\`${path}\``, `\`${standard}\``, meaning]),
)}

## Groups of nodes

Nodes whose disks differ can have daemons with other settings:

\`\`\`yaml
${groupsExample}\`\`\`

A group has its own DaemonSet, \`elastic-local-daemon-<name>\`, with the values of \`daemon\` except where it has its own. No two daemons are ever
on one node: a node is of the first group whose \`nodeSelector\` it matches, as those of later groups, and of the nodes that are in none, are
kept off by their affinity. \`affinity\` and \`tolerations\` then say whether the group's daemon runs there. Should two meet while a node changes
groups, the second is started again until the first has ended: volumes and socket have locks. A node that has volumes keeps them only with the settings that they were made with.

## Settings

Of the daemon, as \`daemon.settings.<name>\`, or of a group's. More about each: [reference](reference.md#flags).

${settingTable(settings.daemon, ':9810')}

The chart itself sets ${listDecided(decided.daemon)}.

Of the provisioner, as \`provisioner.settings.<name>\`:

${settingTable(settings.provisioner, ':9811')}

The chart itself sets ${listDecided(decided.provisioner)}.
`
}

/** `address` is what deploy.yaml sets. */
function settingTable(flags: Flags, address: string): string {
  const standard = (name: string, flag: Flag) =>
    name === 'httpAddress' ? `\`${address}\`; empty: off` : (flag.defaultHelp ?? `\`${flag.default}\``)
  const rows = Object.entries(flags).map(([name, flag]) => [`\`${name}\``, standard(name, flag), flag.help])
  return table(['name', 'default', 'meaning'], rows)
}

const listDecided = (names: Readonly<Record<string, string>>) =>
  Object.entries(names)
    .map(([name, reason]) => `\`${name}\` (${reason})`)
    .join(', ')

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`
  return [line(head), `|${'---|'.repeat(head.length)}`, ...rows.map(line)].join('\n')
}

const root = join(import.meta.dirname, '../../..')
export const chartFiles = {
  values: join(root, 'charts/elastic-local/values.yaml'),
  schema: join(root, 'charts/elastic-local/values.schema.json'),
  page: join(root, 'docs/helm.md'),
}

/** The schema as its file has it. */
export const formatSchema = (): string => `${JSON.stringify(valuesSchema, undefined, 2)}\n`

if (import.meta.main) {
  await writeFile(chartFiles.schema, formatSchema())
  await writeFile(chartFiles.page, buildHelmPage(await readFile(chartFiles.values, 'utf8')))
}
