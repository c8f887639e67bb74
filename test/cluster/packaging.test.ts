import { readdir, readFile, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { parse } from 'yaml'
import { groupsExample, settings, valuesSchema } from '../../src/cmd/docs/chart.ts'
import { CommandError, run } from '../../src/run.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'
import type { KubeObject } from './api.ts'
import { ensureControlPlane, ensureHelm } from './build.ts'
import { changes, everything, leavesOf, settingsSamples, type Values, withValue } from './chart-values.ts'
import { overlayManifest } from './deploy-overlay.ts'
import { runWithInput } from './program.ts'

const root = join(import.meta.dirname, '../..')
const chart = join(root, 'charts/elastic-local')
const test = suite('kustomization and chart')

const [program, helm] = [await ensureControlPlane(), await ensureHelm()]
const inDeploy = read(await readFile(join(root, 'deploy.yaml'), 'utf8'))

/** The objects of a manifest by kind and name. */
function read(text: string): Map<string, KubeObject> {
  const objects = overlayManifest(text, {}) as KubeObject[]
  const byName = objects.map((object): [string, KubeObject] => [`${object.kind} ${object.metadata.name}`, object])
  assert.is(new Map(byName).size, objects.length)
  return new Map(byName.sort(([a], [b]) => (a < b ? -1 : 1)))
}

async function kustomize(folder: string): Promise<Map<string, KubeObject>> {
  return read((await run(program, ['kubectl', 'kustomize', folder])).stdout)
}

/** The objects of the chart; the pods of `helm test` only with `tests`. */
async function render(values: Values = {}, { namespace = 'elastic-local', tests = false, from = chart } = {}) {
  const words = ['--namespace', namespace, '--values', '-', ...(tests ? [] : ['--skip-tests'])]
  const input = { input: JSON.stringify(values) }
  return read((await runWithInput(helm, ['template', 'elastic-local', from, ...words], input)).stdout)
}

function expected(change: (object: KubeObject) => void): Map<string, KubeObject> {
  const objects = structuredClone([...inDeploy]).filter(([, { kind }]) => kind !== 'Namespace')
  for (const [, object] of objects) change(object)
  return new Map(objects)
}

test('the kustomization gives the objects of deploy.yaml', async () => {
  assert.equal(await kustomize(root), inDeploy)
})

test('the components change what they say, and nothing else', () =>
  withScratch(async (folder) => {
    await symlink(root, join(folder, 'elastic-local'))
    const withComponents = async (names: readonly string[]) => {
      const components = names.map((name) => `elastic-local/config/kustomize/${name}`)
      await writeFile(join(folder, 'kustomization.yaml'), JSON.stringify({ resources: ['elastic-local'], components }))
      return await kustomize(folder)
    }
    const changed = async (names: readonly string[], change: (pod: KubeObject) => void) => {
      const objects = new Map(structuredClone([...inDeploy]))
      change(objects.get('DaemonSet elastic-local-daemon')?.spec.template.spec)
      assert.equal(await withComponents(names), objects)
    }
    await changed(['loop'], ({ containers: [daemon] }) =>
      daemon.env.push({ name: 'ELASTIC_LOCAL_DRIVER_KIND', value: 'LOOP' }),
    )
    await changed(['thin'], ({ containers: [daemon] }) =>
      daemon.env.push({ name: 'ELASTIC_LOCAL_LVM_USE_THIN_VOLUMES', value: 'true' }),
    )
    // The chart gives what components do; its other tests show what that is.
    const pluginDir = '/home/kubernetes/flexvolume'
    for (const [names, values] of [
      [['page'], { page: { enabled: true } }],
      [['network-policy'], { networkPolicy: { enabled: true } }],
      [['openshift'], { openshift: { enabled: true } }],
      [['gke'], { resourceQuota: { enabled: true }, daemon: { pluginDir } }],
      [['loop'], { daemon: { settings: { driverKind: 'LOOP' } } }],
      [['thin'], { daemon: { settings: { lvmUseThinVolumes: true } } }],
      [
        ['csi-only'],
        {
          storageClasses: [{ name: 'elastic-local-csi', parameters: { front: 'csi' } }],
          daemon: { settings: { flex: false } },
          provisioner: { settings: { defaultFront: 'csi' } },
        },
      ],
    ] as const) {
      const objects = await withComponents(names)
      objects.delete('Namespace elastic-local')
      assert.equal(await render(values), objects, names.join())
      assert.is.not(JSON.stringify([...objects]), JSON.stringify([...expected(() => {})]))
    }
  }))

test('the chart gives the objects of deploy.yaml, without the namespace, which is the one of the release', async () => {
  assert.equal(
    await render(),
    expected(() => {}),
  )
})

test('the chart gives the same objects in another namespace, whose accounts the admission policies name', async () => {
  const move = (object: KubeObject) => {
    if (object.metadata.namespace) object.metadata.namespace = 'other'
    for (const subject of object.subjects ?? []) subject.namespace = 'other'
    for (const condition of object.spec?.matchConditions ?? [])
      condition.expression = condition.expression.replace(':elastic-local:', ':other:')
  }
  const moved = expected(move)
  assert.equal(await render({}, { namespace: 'other' }), moved)
  assert.match(JSON.stringify([...moved]), 'system:serviceaccount:other:elastic-local-daemon')
})

test('a pod runs nowhere but on Linux, whatever else its nodes must be', async () => {
  const nodeSelector = { disks: 'local' }
  const values = { daemon: { nodeSelector }, provisioner: { nodeSelector } }
  for (const [, { kind, spec }] of await render(values))
    if (kind === 'DaemonSet' || kind === 'Deployment')
      assert.equal(spec.template.spec.nodeSelector, { 'kubernetes.io/os': 'linux', ...nodeSelector })
})

test('each flag is a setting, which reaches the program by its own variable', async () => {
  const given = Object.fromEntries(
    Object.entries(settings).map(([component, flags]) => [component, { settings: settingsSamples(flags) }]),
  )
  const objects = await render(given)
  for (const component of ['daemon', 'provisioner'] as const) {
    const kind = component === 'daemon' ? 'DaemonSet' : 'Deployment'
    const [{ env }] = objects.get(`${kind} elastic-local-${component}`)?.spec.template.spec.containers ?? []
    for (const [name, flag] of Object.entries(settings[component])) {
      const value = String(given[component]?.settings[name])
      assert.equal(
        env.filter((each: KubeObject) => each.name === flag.env[0]),
        [{ name: flag.env[0], value }],
      )
      assert.is.not(flag.parse(value), undefined, `${name}: ${value}`)
    }
  }
  const { volumes, containers } = objects.get('DaemonSet elastic-local-daemon')?.spec.template.spec ?? {}
  const paths = (name: string) => [
    volumes.find((volume: KubeObject) => volume.name === name).hostPath.path,
    containers[0].volumeMounts.find((mount: KubeObject) => mount.name === name).mountPath,
  ]
  assert.equal(paths('volumes'), ['/of/volumesDir', '/of/volumesDir'])
  assert.equal(paths('kubelet'), ['/of/kubeletDir', '/of/kubeletDir'])
  assert.equal(paths('socket'), ['/of', '/of'])
})

test('probes ask by HTTP where the kubelet reaches the address, and run the program elsewhere', async () => {
  const probesOf = async (httpAddress: string) => {
    const component = { settings: { httpAddress } }
    const objects = await render({ daemon: component, provisioner: component })
    return [...objects.values()].flatMap(({ kind, spec }) => {
      if (kind !== 'DaemonSet' && kind !== 'Deployment') return []
      const { startupProbe, readinessProbe, livenessProbe, ports } = spec.template.spec.containers[0]
      return [[startupProbe, readinessProbe, livenessProbe].filter(Boolean), ports]
    })
  }
  const http = (path: string) => ({ path, port: 'metrics' })
  const byHttp = await probesOf(':1234')
  assert.equal(
    byHttp[0].map((probe: KubeObject) => probe.httpGet),
    ['/healthz', '/readyz', '/healthz'].map(http),
  )
  assert.equal(
    byHttp[2].map((probe: KubeObject) => probe.httpGet),
    ['/readyz', '/healthz'].map(http),
  )
  assert.equal([byHttp[1], byHttp[3]], Array(2).fill([{ name: 'metrics', containerPort: 1234 }]))
  for (const address of ['127.0.0.1:1234', '']) {
    const byProgram = await probesOf(address)
    for (const probes of [byProgram[0], byProgram[2]])
      for (const { httpGet, exec } of probes)
        assert.equal([httpGet, /^elastic-local (healthz|readyz)$/.test(exec.command.join(' '))], [undefined, true])
    assert.is(byProgram[1]?.length, address ? 1 : undefined)
  }
})

/** Whether a DaemonSet has a pod on a node with these labels (NodeSelector and affinity of core/v1). */
function covers({ spec }: KubeObject, labels: Readonly<Record<string, string>>): boolean {
  const { nodeSelector, affinity } = spec.template.spec
  const terms = affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? [{}]
  const holds = ({ key, operator, values }: KubeObject) => {
    if (operator === 'In') return values.includes(labels[key])
    if (operator === 'NotIn') return !values.includes(labels[key])
    throw new Error(`Cannot tell what ${operator} means`)
  }
  return (
    Object.entries(nodeSelector).every(([key, value]) => labels[key] === value) &&
    terms.some(({ matchExpressions = [] }: KubeObject) => matchExpressions.every(holds))
  )
}

test('of several groups of daemons, each node has one: the first that selects it', async () => {
  const groups = [
    { name: 'both', nodeSelector: { a: '1', b: '1' }, settings: { lvmVolumeGroup: 'of-both' } },
    { name: 'one', nodeSelector: { a: '1' }, tolerations: [] },
    {
      name: 'other',
      nodeSelector: { b: '1' },
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: ['1', '2'].map((value) => ({
              matchExpressions: [{ key: 'c', operator: 'In', values: [value] }],
            })),
          },
        },
      },
    },
  ]
  const settings = { lvmVolumeGroup: 'of-all', lvmUseThinVolumes: true }
  const objects = [...(await render({ daemon: { settings, groups } })).values()]
  const sets = objects.filter(({ kind }) => kind === 'DaemonSet')
  assert.is(sets.length, 4)
  const selectors = sets.map(({ spec }) => spec.selector.matchLabels['volumes.k8s.elastic.co/group'])
  assert.equal(selectors.sort(), ['both', 'one', 'other', 'rest'])
  for (const { spec } of sets)
    for (const [key, value] of Object.entries(spec.selector.matchLabels))
      assert.is(spec.template.metadata.labels[key], value)
  const choices = [undefined, '1', '2']
  for (const a of choices)
    for (const b of choices)
      for (const c of choices) {
        const set = Object.entries({ a, b, c }).filter((label) => label[1] !== undefined)
        const labels = { 'kubernetes.io/os': 'linux', ...Object.fromEntries(set) } as Record<string, string>
        const here = sets.filter((each) => covers(each, labels)).map(({ metadata }) => metadata.name)
        const group = a === '1' ? (b === '1' ? '-both' : '-one') : b === '1' ? (c ? '-other' : undefined) : ''
        const wanted = group === undefined ? [] : [`elastic-local-daemon${group}`]
        assert.equal(here, wanted, JSON.stringify(labels))
      }
  const envOf = (name: string) => {
    const [{ env }] = sets.find(({ metadata }) => metadata.name.endsWith(name))?.spec.template.spec.containers ?? []
    return env.filter(({ name }: { name: string }) => name.includes('LVM')).map((each: KubeObject) => each.value)
  }
  // A group has the values of all, but where it has its own.
  assert.equal(
    [envOf('both').sort(), envOf('one').sort()],
    [
      ['of-both', 'true'],
      ['of-all', 'true'],
    ],
  )
  // What a group has may be nothing.
  const poor = { name: 'poor', nodeSelector: { a: '1' }, tolerations: [], priorityClassName: '', hostIPC: false }
  const podOf = async (daemon: Values) => {
    const set = (await render({ daemon: { groups: [poor], ...daemon } })).get('DaemonSet elastic-local-daemon-poor')
    const { tolerations, priorityClassName, hostIPC, containers } = set?.spec.template.spec ?? {}
    return [tolerations, priorityClassName, hostIPC, containers[0].env.at(-1)]
  }
  assert.equal((await podOf({})).slice(0, 3), [undefined, undefined, undefined])
  const off = { groups: [{ ...poor, settings: { lvmUseThinVolumes: false, unmountOrphansAfter: 0 } }] }
  const [, , , last] = await podOf({ settings: { unmountOrphansAfter: 60 }, ...off })
  assert.equal(last, { name: 'ELASTIC_LOCAL_UNMOUNT_ORPHANS_AFTER', value: '0' })
  const { daemon } = parse(groupsExample)
  const alone = await render({ daemon: { ...daemon, enabled: false } })
  assert.equal(
    [...alone.keys()].filter((key) => key.startsWith('DaemonSet')),
    ['DaemonSet elastic-local-daemon-fast', 'DaemonSet elastic-local-daemon-images'],
  )
})

const textsOf = (objects: ReadonlyMap<string, KubeObject>) =>
  new Map([...objects].map(([key, object]) => [key, JSON.stringify(object)]))

test('each value changes what it says, and nothing else; there is no other value', async () => {
  const paths = leavesOf(valuesSchema).filter((path) => path !== 'global' && !path.endsWith('settings'))
  assert.equal(Object.keys(changes).sort(), paths.sort())
  const before = textsOf(await render(everything, { tests: true }))
  for (const [path, { to, of, shows, hides }] of Object.entries(changes)) {
    const after = textsOf(await render(withValue(everything, path, to), { tests: true }))
    const differing = [...new Set([...before.keys(), ...after.keys()])].filter(
      (key) => before.get(key) !== after.get(key),
    )
    assert.equal(differing.sort(), [...of].sort(), path)
    const shown = shows ?? JSON.stringify(to)
    for (const key of differing) {
      const [old, text] = [before.get(key), after.get(key)]
      if (hides) assert.not.ok(text?.includes(hides), `${path}: ${hides} is still in ${key}`)
      else if (text) assert.ok(text.includes(shown) && !old?.includes(shown), `${path}: ${shown} in ${key}: ${text}`)
    }
    if (hides)
      assert.ok(
        differing.some((key) => before.get(key)?.includes(hides)),
        path,
      )
  }
})

test('a NetworkPolicy that names nobody admits nobody', async () => {
  const policy = (await render({ networkPolicy: { enabled: true, from: [] } })).get('NetworkPolicy elastic-local')
  assert.equal([policy?.spec.policyTypes, policy?.spec.ingress], [['Ingress'], []])
})

test('the chart refuses a wrong value, and says which', async () => {
  const twice = [{ name: 'a' }, { name: 'a' }]
  for (const [path, value, message] of [
    ['daemon.settings.driverKind', 'lvm', /driverKind.*'LVM', 'LOOP', 'BINDMOUNT'/],
    ['daemon.settings.lvmVolumeGroup', '-a', /lvmVolumeGroup/],
    ['daemon.settings.lvmUseThinVolumes', 'yes', /lvmUseThinVolumes.*boolean/],
    ['daemon.settings.lvmThinDataWatermark', 0, /lvmThinDataWatermark.*minimum/],
    ['daemon.settings.volumesDir', 'volumes', /volumesDir/],
    ['daemon.settings.volumeDir', '/volumes', /daemon\/settings.*'volumeDir' not allowed/],
    ['daemon.settings.standalone', true, /daemon\/settings.*'standalone' not allowed/],
    ['provisioner.settings.nodeGoneGrace', '5 minutes', /nodeGoneGrace/],
    ['daemon.hostIPC', 'no', /hostIPC.*boolean/],
    ['daemon.pluginDir', '', /pluginDir/],
    ['daemon.nodeselector', {}, /daemon.*'nodeselector' not allowed/],
    ['daemon.groups', [{ name: 'fast' }], /groups\/0.*missing property 'nodeSelector'/],
    ['daemon.groups', [{ name: 'fast', nodeSelector: {} }], /groups\/0\/nodeSelector/],
    ['daemon.groups', [{ name: 'rest', nodeSelector: { a: 'b' } }], /groups\/0\/name/],
    [
      'daemon.groups',
      twice.map((group) => ({ ...group, nodeSelector: { a: 'b' } })),
      /two of daemon\.groups.*called a/,
    ],
    ['provisioner.replicas', 0, /replicas.*minimum/],
    ['image', 'elastic-local:1', /image.*object/],
    ['image.digest', 'abc', /digest/],
    ['storageClasses', [{ name: 'a', parameters: { fstype: 'xfs' } }], /parameters.*'fstype' not allowed/],
    ['storageClasses', [{ name: 'a', reclaimPolicy: 'Recycle' }], /reclaimPolicy.*'Delete', 'Retain'/],
    ['storageClasses', twice, /two of storageClasses that are called a/],
    ['storageClasses', [...'ab'].map((name) => ({ name, default: true })), /more than one default.*a, b/],
    ['volumegroup', 'a', /'volumegroup' not allowed/],
    ['provisioner.settings', { httpAddress: '' }, /page\.enabled.*provisioner\.settings\.httpAddress/],
  ] as const)
    assert.match(
      (await thrownBy(CommandError, () => render(withValue({ page: { enabled: true } }, path, value)))).stderr,
      message,
    )
})

test('helm finds nothing wrong with the chart, whose version is that of the program', async () => {
  await run(helm, ['lint', '--strict', chart])
  const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  const { version: own, appVersion } = parse(await readFile(join(chart, 'Chart.yaml'), 'utf8'))
  assert.equal([own, appVersion], [version, version])
})

test('a packaged chart holds all it needs', () =>
  withScratch(async (folder) => {
    await run(helm, ['package', chart, '--destination', folder])
    const [archive = ''] = await readdir(folder)
    assert.equal(await render(everything, { from: join(folder, archive) }), await render(everything))
  }))

test.run()
