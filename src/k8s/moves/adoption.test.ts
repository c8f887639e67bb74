import * as assert from 'uvu/assert'
import { claim } from '../../../test/cluster/claim-objects.ts'
import { buildForeign, type Foreign, foreignClasses, foreignLabels } from '../../../test/foreign.ts'
import type { StoredObject } from '../../../test/memory-api.ts'
import { claimsPath, configMapsPath, ledgerPath, namespace, play, volumesPath } from '../../../test/memory-cluster.ts'
import { claimPath, dieAt, disturb, sizeBytes, usedBy, type Who, World } from '../../../test/memory-moves.ts'
import { sideBySide } from '../../../test/side-by-side.ts'
import { suite } from '../../../test/suite.ts'
import { adoptedAnnotation, moveName } from '../model/names.ts'
import { type ProjectName, projectNames } from '../model/origin.ts'
import { findMovable } from './mover.ts'
import { readMoves } from './record.ts'

const test = suite('adoption')
const journey = sideBySide(test)
const place = 'memory'

interface ForeignWorld extends World {
  foreign: Foreign
  /** Whether the other project is of a version that leaves no object alone. */
  isOld?: boolean
}

/** A cluster in which claim `data` has a volume of another project, whose controllers are at work. */
async function openForeign(project: ProjectName): Promise<ForeignWorld> {
  const world = await World.start(({ server, machine }) => {
    server.change('/api/v1/nodes/a', { metadata: { labels: foreignLabels('a') } })
    const { pool } = machine
    if (project !== 'local-path') return
    const { report } = pool
    Object.assign(pool, { report: async () => ({ ...(await report()), name: `/${place}`, driverKind: 'BINDMOUNT' }) })
  })
  const { server, machine } = world
  const { metadata } = server.create(claimsPath, claim('data', { size: '64Mi', class: foreignClasses[project] }))
  const foreign = buildForeign(project, {
    claim: { namespace: 'default', name: 'data', uid: metadata.uid },
    ...{ node: 'a', hostname: 'host-a', size: '64Mi' },
    place: project === 'local-path' ? `/${place}` : place,
  })
  const { resource, volume, name } = foreign
  if (resource) server.create(resource.path, resource.object)
  world.name = server.create(volumesPath, volume).metadata.name
  server.change(claimPath, { spec: { volumeName: world.name } })
  const files = new Map([['file', 'precious']])
  machine.volumes.set(name, {
    ...{ id: '', sizeBytes, fsType: 'ext4', marked: false },
    ...{ signatures: ['ext4'], filesystemBytes: sizeBytes, files },
  })
  await server.until('it is bound', () => world.claim?.status?.phase === 'Bound')
  world.watch()
  const opened: ForeignWorld = Object.assign(world, { foreign })
  world.play(play(server, () => control(opened)))
  return opened
}

/** What controllers of the other project do: they remove the data of an object that goes, and hold one that does not. */
function control(world: ForeignWorld): void {
  const { resource, name } = world.foreign
  const { server, machine } = world
  const path = resource && `${resource.path}/${resource.object.metadata.name}`
  const found = path && server.find(path)
  if (!resource || !found) return
  const { finalizers = [], deletionTimestamp, annotations = {} } = found.metadata
  if (annotations['topolvm.io/pendingdeletion'] !== undefined && !world.isOld) return
  const [finalizer = ''] = resource.object.metadata.finalizers ?? []
  if (deletionTimestamp && finalizers.includes(finalizer)) {
    if (machine.volumes.delete(name)) world.wrongs.push(`the other project removed ${name}`)
    server.change(path, { metadata: { finalizers: [] } })
  } else if (!deletionTimestamp && !finalizers.includes(finalizer) && path.includes('topolvm'))
    server.change(path, { metadata: { finalizers: [finalizer] } })
}

const resourceOf = ({ server, foreign: { resource } }: ForeignWorld) =>
  resource && server.find(`${resource.path}/${resource.object.metadata.name}`)

/** Nothing tells of the other project but the class of the claim; the data is as it was. */
function isOurs(world: World): boolean {
  const { volume, machine, name } = world
  const stored = machine.volumes.get(name)
  return (
    resourceOf(world as ForeignWorld) === undefined &&
    volume?.metadata.annotations?.['pv.kubernetes.io/provisioned-by'] === 'elastic-local.volumes.k8s.elastic.co' &&
    machine.volumes.size === 1 &&
    stored?.marked === true &&
    stored.files.get('file') === 'precious'
  )
}

/** All is as it was before anybody asked for an adoption. */
function mustBeUntouched({ volume, record, foreign, machine, server, entry, ...world }: ForeignWorld): void {
  const resource = resourceOf({ foreign, server } as ForeignWorld)
  assert.equal(
    [volume?.spec.persistentVolumeReclaimPolicy, volume?.status.phase, record],
    ['Delete', 'Bound', undefined],
  )
  assert.equal(volume?.spec.csi, foreign.volume.spec.csi)
  assert.equal(entry, undefined)
  assert.equal(
    [...machine.volumes].map(([name, { marked }]) => [name, marked]),
    [[foreign.name, false]],
  )
  assert.equal(resource?.metadata.finalizers, foreign.resource?.object.metadata.finalizers)
  assert.equal(resource?.metadata.annotations ?? {}, {})
  assert.equal(world.wrongs, [])
}

for (const from of projectNames)
  for (const who of ['person', 'daemon', 'provisioner'] as const satisfies Who[])
    journey(`a volume of ${from} is adopted, whatever becomes of a request of the ${who}`, () =>
      disturb({ open: () => openForeign(from), to: 'csi', from, isThere: isOurs, isBrief: from !== 'topolvm' }, who),
    )

/** A world for one test, with a provisioner. */
function scene(title: string, from: ProjectName, work: (world: ForeignWorld) => Promise<void>): void {
  journey(title, async () => {
    const world = await openForeign(from)
    const stop = world.startProvisioner()
    try {
      await work(world)
      assert.equal(world.wrongs, [])
    } finally {
      await stop()
      await world.close()
    }
  })
}

const adopt = (world: ForeignWorld, from: ProjectName) =>
  world.mover('csi', world.server.client(), { from }).move(world.name)

for (const from of projectNames) {
  scene(`what is in the way of a volume of ${from} is said, and all is left as it was`, from, async (world) => {
    const { server, machine, foreign, name } = world
    const client = server.client()
    const look = () => world.mover('csi', client, { from }).look(name)
    assert.is(await look(), undefined)
    assert.ok(client.requests.every(({ method }) => method === 'GET'))
    const volumePath = `${volumesPath}/${name}`
    const attachments = '/apis/storage.k8s.io/v1/volumeattachments'
    const change = (path: string, to: object, back: object) => {
      server.change(path, to)
      return () => server.change(path, back)
    }
    const { resource } = foreign
    const resourcePath = resource ? `${resource.path}/${name}` : ''
    const cases: [RegExp, () => () => void][] = [
      [
        /^pod web uses it: stop it first$/,
        () => {
          usedBy(world)
          return () => server.delete('/api/v1/namespaces/default/pods/web')
        },
      ],
      [
        /^VolumeAttachment csi-1 has it attached to node a$/,
        () => {
          const spec = { source: { persistentVolumeName: name }, nodeName: 'a' }
          server.create(attachments, { metadata: { name: 'csi-1' }, spec })
          return () => server.delete(`${attachments}/csi-1`)
        },
      ],
      [
        /access mode is ReadWriteMany/,
        () =>
          change(
            volumePath,
            { spec: { accessModes: ['ReadWriteMany'] } },
            { spec: { accessModes: ['ReadWriteOnce'] } },
          ),
      ],
      [
        /^0 nodes have what its PersistentVolume holds pods to, not one$/,
        () =>
          change(
            '/api/v1/nodes/a',
            { metadata: { labels: { ...foreignLabels('b'), 'kubernetes.io/hostname': 'host-b' } } },
            { metadata: { labels: { ...foreignLabels('a'), 'kubernetes.io/hostname': 'host-a' } } },
          ),
      ],
      [
        /^its PersistentVolume is not one of /,
        () => {
          const before = server.find(volumePath)?.metadata.annotations ?? {}
          const none = Object.fromEntries(Object.keys(before).map((key) => [key, null]))
          return change(volumePath, { metadata: { annotations: none } }, { metadata: { annotations: before } })
        },
      ],
      [
        /^finalizer example.com\/mine holds its PersistentVolume$/,
        () => {
          const { finalizers = [] } = server.find(volumePath)?.metadata ?? {}
          return change(
            volumePath,
            { metadata: { finalizers: [...finalizers, 'example.com/mine'] } },
            { metadata: { finalizers } },
          )
        },
      ],
      [
        /its claim is growing/,
        () =>
          change(
            claimPath,
            { spec: { resources: { requests: { storage: '128Mi' } } } },
            { spec: { resources: { requests: { storage: '64Mi' } } } },
          ),
      ],
    ]
    if (resource)
      cases.push(
        [
          /^its (LogicalVolume|LVMVolume) is of node b$/,
          () =>
            change(
              resourcePath,
              { spec: { nodeName: 'b', ownerNodeID: 'b' } },
              { spec: { nodeName: 'a', ownerNodeID: 'a' } },
            ),
        ],
        [
          /^finalizer example.com\/mine holds its L/,
          () => {
            const { finalizers = [] } = server.find(resourcePath)?.metadata ?? {}
            return change(
              resourcePath,
              { metadata: { finalizers: [...finalizers, 'example.com/mine'] } },
              { metadata: { finalizers } },
            )
          },
        ],
      )
    for (const [why, make] of cases) {
      const undo = make()
      assert.match((await look()) ?? 'nothing', why)
      const result = await adopt(world, from)
      assert.is(result.outcome, 'refused')
      undo()
      await server.idle()
      mustBeUntouched(world)
    }
    // What only the node can tell.
    const stored = machine.volumes.get(foreign.name)
    assert.ok(stored)
    for (const [why, make] of [
      [
        /init\) has it mounted on \/mnt; stop what uses it first/,
        () => {
          machine.held.add(foreign.name)
          return () => machine.held.delete(foreign.name)
        },
      ],
      [
        /it must hold ext4: it holds xfs/,
        () => {
          stored.signatures = ['xfs']
          return () => {
            stored.signatures = ['ext4']
          }
        },
      ],
      [
        /it must hold ext4, and is blank: it was never mounted/,
        () => {
          stored.signatures = []
          return () => {
            stored.signatures = ['ext4']
          }
        },
      ],
      [
        /as it is not there/,
        () => {
          machine.volumes.delete(foreign.name)
          return () => machine.volumes.set(foreign.name, stored)
        },
      ],
    ] as [RegExp, () => () => void][]) {
      const undo = make()
      const result = await adopt(world, from)
      assert.is(result.outcome, 'refused', JSON.stringify(result))
      assert.match(JSON.stringify(result), why)
      undo()
      await server.idle()
      mustBeUntouched(world)
    }
    assert.equal(await adopt(world, from), { outcome: 'moved' })
    assert.equal(await adopt(world, from), { outcome: 'unchanged' })
    await server.until('all know of it', () => world.isSettled('csi') && isOurs(world))
  })

  scene(
    `an adoption from ${from} is taken back when a pod comes before the PersistentVolume goes`,
    from,
    async (world) => {
      await dieAt(world, 'csi', 'DELETE', /persistentvolumes/, { from })
      assert.is(world.volume?.spec.persistentVolumeReclaimPolicy, 'Retain')
      assert.equal(
        (await findMovable(world.server.client(), namespace, { within: 'default', from })).volumes.map(
          ({ name, from: its, begunAt }) => [name, its, begunAt !== undefined],
        ),
        [[world.name, from, true]],
      )
      usedBy(world)
      const result = await adopt(world, from)
      assert.match(JSON.stringify(result), /"refused".*pod web uses it/)
      await world.server.idle()
      mustBeUntouched(world)
    },
  )

  scene(
    `what was adopted from ${from} grows, and goes with its claim, when nothing of the other is left`,
    from,
    async (world) => {
      const { server, machine, name } = world
      await adopt(world, from)
      await server.until('all know of it', () => world.isSettled('csi'))
      machine.onStep = () => {}
      server.change(claimPath, { spec: { resources: { requests: { storage: '128Mi' } } } })
      await server.until('it has grown', () => world.claim?.status.capacity.storage === '128Mi')
      assert.is(machine.volumes.get(name)?.sizeBytes, 2n * sizeBytes)
      server.delete(claimPath)
      await server.until('it is removed', () => !world.volume && !machine.volumes.has(name))
      await server.until('nothing is promised to it', () => world.entry === undefined)
    },
  )

  for (const [title, method, path] of [
    ['before the PersistentVolume goes', 'DELETE', /persistentvolumes/],
    ['while there is no PersistentVolume', 'POST', /persistentvolumes/],
    ['before it is bound', 'PATCH', /persistentvolumeclaims/],
  ] as const)
    scene(`a claim of ${from} that is deleted ${title} leaves a volume that is kept`, from, async (world) => {
      const { server, machine, foreign } = world
      await dieAt(world, 'csi', method, path, { from })
      server.delete(claimPath)
      await server.idle()
      const result = await adopt(world, from)
      assert.match(JSON.stringify(result), /its claim was deleted in the meantime, and PersistentVolume .* is kept/)
      await server.idle()
      assert.equal([world.record, world.volume?.status.phase], [undefined, 'Released'])
      assert.is(world.volume?.spec.persistentVolumeReclaimPolicy, 'Retain')
      const isBefore = method === 'DELETE'
      const kept = machine.volumes.get(isBefore ? foreign.name : world.name)
      assert.equal([kept?.marked, kept?.files.get('file')], [!isBefore, 'precious'])
      assert.is(resourceOf(world) === undefined, !isBefore || from === 'local-path')
    })

  scene(`a record of ${from} that is left of a volume which was removed since makes nothing`, from, async (world) => {
    const { server, machine, name } = world
    await dieAt(world, 'csi', 'DELETE', /configmaps/, { from })
    machine.onStep = () => {}
    server.delete(claimPath)
    await server.until('it is removed', () => !world.volume && !machine.volumes.has(name))
    const result = await adopt(world, from)
    assert.equal(result, { outcome: 'given-up', why: 'it was removed with its claim' })
    assert.equal([world.record, world.volume, world.entry], [undefined, undefined, undefined])
  })
}

scene('an adoption is taken back when the daemon is away', 'topolvm', async (world) => {
  await world.daemon?.stop()
  const result = await world.mover('csi', world.server.client(), { from: 'topolvm', patienceMs: 20 }).move(world.name)
  assert.match(JSON.stringify(result), /"refused".*the daemon of node a, which must look at the volume, takes too long/)
  mustBeUntouched(world)
  await world.startDaemon()
})

scene(
  'a volume that comes into use after all waits with its PersistentVolume until it is free',
  'openebs-lvm',
  async (world) => {
    const { server, machine, foreign } = world
    await dieAt(world, 'csi', 'POST', /persistentvolumes/, { from: 'openebs-lvm' })
    machine.held.add(foreign.name)
    const adopted = adopt(world, 'openebs-lvm')
    await server.until('it is told', () => {
      const events = server.list('/api/v1/namespaces/default/events')
      return events.some(({ reason, message }) => reason === 'VolumeNotMade' && /has it mounted on/.test(message))
    })
    assert.is(machine.volumes.get(foreign.name)?.marked, false)
    assert.is(world.volume?.spec.persistentVolumeReclaimPolicy, 'Retain')
    machine.held.delete(foreign.name)
    assert.equal(await adopted, { outcome: 'moved' })
  },
)

scene('data that is lost after it was adopted is told of, and not looked for again', 'local-path', async (world) => {
  const { server, machine, name } = world
  await adopt(world, 'local-path')
  await server.until('all know of it', () => world.isSettled('csi'))
  machine.volumes.delete(name)
  await world.daemon?.stop()
  await world.startDaemon()
  await server.until('it is told', () => {
    const events = server.list('/api/v1/namespaces/default/events')
    return events.some(({ reason, message }) => reason === 'VolumeNotMade' && /its data is lost/.test(message))
  })
})

scene('a version of TopoLVM that puts its finalizer back removes nothing', 'topolvm', async (world) => {
  world.isOld = true
  assert.equal(await adopt(world, 'topolvm'), { outcome: 'moved' })
  await world.server.until('all know of it', () => world.isSettled('csi') && isOurs(world))
})

scene('finalizers of the other project on the claim go', 'topolvm', async (world) => {
  world.server.change(claimPath, { metadata: { finalizers: ['kubernetes.io/pvc-protection', 'topolvm.io/pvc'] } })
  assert.equal(await adopt(world, 'topolvm'), { outcome: 'moved' })
  assert.equal(world.claim?.metadata.finalizers, ['kubernetes.io/pvc-protection'])
})

scene(
  'a forged record, or PersistentVolume, has nothing adopted that the project did not make',
  'topolvm',
  async (world) => {
    const { server, machine, name, foreign } = world
    machine.volumes.set('root', { ...machine.volumes.get(foreign.name) } as never)
    await dieAt(world, 'csi', 'POST', /persistentvolumes/, { from: 'topolvm' })
    const path = `${configMapsPath}/${moveName(name)}`
    const { data } = world.record as StoredObject
    const volume = JSON.parse(data.persistentVolume)
    const from = (origin: string | null) => ({
      ...volume,
      metadata: { ...volume.metadata, annotations: { ...volume.metadata.annotations, [adoptedAnnotation]: origin } },
    })
    for (const origin of ['topolvm/root', 'topolvm/../root', `openebs-lvm/${name}`, 'lvm/root', '', null]) {
      server.change(path, { data: { persistentVolume: JSON.stringify(from(origin)) } })
      assert.match((await readMoves(server.client(), namespace)).wrongs.join(), /not one that a move to csi creates/)
    }
    server.change(path, { data: { ...data, from: 'nfs' } })
    assert.match(
      (await readMoves(server.client(), namespace)).wrongs.join(),
      /from must be one of topolvm, openebs-lvm/,
    )
    server.change(path, { data })
    server.change(ledgerPath('a'), {
      data: {
        [name]: JSON.stringify({
          pool: 'default',
          kind: 'volume',
          promisedBytes: '0',
          question: { origin: 'topolvm/root', fsType: 'ext4', by: 'me' },
        }),
      },
    })
    await server.until('it is answered', () => world.entry?.question?.answer !== undefined)
    assert.match(
      JSON.stringify(world.entry, (_, value) => (typeof value === 'bigint' ? String(value) : value)),
      /"invalid".*must name what/,
    )
    server.create(volumesPath, from('topolvm/root'))
    await server.until('it is told', () => {
      const events = server.list('/api/v1/namespaces/default/events')
      return events.some(({ reason, message }) => reason === 'VolumeNotMade' && /must name what topolvm/.test(message))
    })
    assert.is(machine.volumes.get('root')?.marked, false)
  },
)

test.run()
