import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import * as assert from 'uvu/assert'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { buildCallOuts } from '../flex/call-outs.ts'
import type { LogFields } from '../log.ts'
import type { Done } from '../meter.ts'
import type { Health } from '../status/health.ts'
import { Engine } from '../volume/engine.ts'
import { MemoryMachine } from '../volume/memory.ts'
import { buildApp } from './app.ts'
import { Drain } from './drain.ts'
import { buildStandaloneFront } from './front.ts'

const test = suite('daemon app')
const gibibyte = 1n << 30n
const options = { sizeBytes: String(gibibyte), 'kubernetes.io/fsType': 'ext4', 'kubernetes.io/pvOrVolumeName': 'pvc-1' }

type Ground = Awaited<ReturnType<typeof openApp>>

/** The API of a daemon on a machine in memory that has 4 GiB. */
async function openApp(kubeletDir: string, health?: Health) {
  const machine = new MemoryMachine({ capacityBytes: 4n * gibibyte })
  const { pool, mounts, filesystems, journal } = machine
  const logged: string[] = []
  const fields: LogFields[] = []
  const observed: Done[] = []
  const say = (message: string, about: LogFields = {}) => {
    logged.push(message)
    fields.push(about)
  }
  const log = { info: say, warn: say }
  const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
  await engine.start()
  const drain = new Drain()
  const app = buildApp({
    engine,
    drain,
    callOuts: buildCallOuts(kubeletDir),
    front: { ...buildStandaloneFront(engine), claimOf: (name) => ({ namespace: 'default', name: `claim-of-${name}` }) },
    version: '1.2.3',
    ...(health ? { health } : {}),
    observe: (done) => observed.push(done),
    log,
  })
  const send = async (method: string, path: string, body?: string) =>
    await app.request(path, { method, ...(body === undefined ? {} : { body }) })
  const ask = async (
    method: string,
    path: string,
    body?: object,
  ): Promise<{ status: number; body: Record<string, unknown> }> => {
    const response = await send(method, path, body && JSON.stringify(body))
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  const target = (pod: string, name = 'pvc-1') =>
    join(kubeletDir, 'pods', pod, 'volumes/volumes.k8s.elastic.co~elastic-local', name)
  return {
    app,
    machine,
    drain,
    logged,
    fields,
    observed,
    target,
    send,
    ask,
    /** One call-out; its answer is in the flex shape, with status 200. */
    callOut: async (path: string, body: object): Promise<Record<string, unknown>> => {
      const answer = await ask('POST', path, body)
      assert.is(answer.status, 200)
      assert.ok(['Success', 'Failure'].includes(String(answer.body.status)), JSON.stringify(answer.body))
      return answer.body
    },
  }
}

const withApp = (work: (ground: Ground) => Promise<void>) => () =>
  withScratch(async (kubeletDir) => await work(await openApp(kubeletDir)))

/** A change of the machine that waits until it is let go; `begun` resolves when it waits. */
function hold(machine: MemoryMachine, step: string) {
  const begun = Promise.withResolvers<void>()
  const go = Promise.withResolvers<void>()
  machine.onStep = async (name) => {
    if (name !== step) return
    begun.resolve()
    await go.promise
  }
  return { begun: begun.promise, letGo: () => go.resolve() }
}

const success = { status: 'Success' }

/** Fails unless it is a `Failure` that says so. */
function fails(answer: Record<string, unknown>, message: RegExp): void {
  assert.is(answer.status, 'Failure')
  assert.match(String(answer.message), message)
  assert.equal(Object.keys(answer).sort(), ['message', 'status'])
}

test(
  '/init and /healthz answer whatever else is going on',
  withApp(async ({ ask, drain }) => {
    await drain.stop()
    assert.equal(await ask('GET', '/init'), {
      status: 200,
      body: { status: 'Success', capabilities: { attach: false } },
    })
    assert.equal(await ask('GET', '/healthz'), { status: 200, body: { status: 'ok', version: '1.2.3' } })
  }),
)

test('/readyz says why the daemon is not ready', async () =>
  await withScratch(async (kubeletDir) => {
    const { ask } = await openApp(kubeletDir, { alive: [], ready: [() => 'it has no ledger yet'] })
    assert.is((await ask('GET', '/healthz')).status, 200)
    const { status, body } = await ask('GET', '/readyz')
    assert.equal([status, body.reasons], [503, ['it has no ledger yet']])
  }))

test(
  'each call-out is told of, with its kind and how it ended, and logged with what it was about',
  withApp(async ({ callOut, target, observed, fields }) => {
    await callOut('/mount', { targetDir: target('a'), options })
    await callOut('/mount', { targetDir: target('a', 'pvc-2'), options: {} })
    await callOut('/unmount', { targetDir: '/elsewhere' })
    assert.equal(
      observed.map(({ what, result }) => `${what}: ${result}`),
      ['mount: success', 'mount: not-found', 'unmount: invalid'],
    )
    assert.equal(
      fields.map(({ volume, pod, claim }) => [volume, pod, claim]),
      [
        ['pvc-1', 'a', 'default/claim-of-pvc-1'],
        ['pvc-2', 'a', 'default/claim-of-pvc-2'],
        [undefined, undefined, undefined],
      ],
    )
  }),
)

test(
  '/mount makes and mounts the volume in the target, twice as well as once, and /unmount takes it away',
  withApp(async ({ callOut, machine, target, logged }) => {
    const mounted = () => machine.mounted.map((mount) => mount.target)
    for (let i = 0; i < 2; i++) assert.equal(await callOut('/mount', { targetDir: target('a'), options }), success)
    assert.equal(
      await callOut('/mount', { targetDir: target('b'), options: { ...options, 'kubernetes.io/readwrite': 'ro' } }),
      success,
    )
    assert.equal(mounted(), ['/volumes/pvc-1', target('a'), target('b')])
    assert.equal(
      machine.mounted.map((mount) => mount.readOnly),
      [false, false, true],
    )
    for (let i = 0; i < 2; i++) assert.equal(await callOut('/unmount', { targetDir: target('a') }), success)
    assert.equal(await callOut('/unmount', { targetDir: target('b') }), success)
    assert.equal(mounted(), [])
    assert.is(machine.volumes.get('pvc-1')?.sizeBytes, gibibyte)
    assert.ok(logged.some((line) => line.includes('/mount') && line.includes(target('a'))))
  }),
)

test(
  '/mountdevice and /unmountdevice do the same on the folder that all pods share',
  withApp(async ({ callOut, machine, target }) => {
    const kubeletDir = target('').split('/pods/')[0]
    const targetDir = `${kubeletDir}/plugins/kubernetes.io/flexvolume/volumes.k8s.elastic.co/elastic-local/mounts/pvc-1`
    assert.equal(await callOut('/mountdevice', { targetDir, device: '/dev/memory/pvc-1', options }), success)
    assert.is(machine.mounted.at(-1)?.target, targetDir)
    assert.equal(await callOut('/unmountdevice', { targetDir }), success)
    assert.equal(machine.mounted, [])
  }),
)

test(
  '/waitforattach makes the volume and gives its device',
  withApp(async ({ callOut, machine }) => {
    const answer = await callOut('/waitforattach', { device: 'elastic-local/pvc-1', options })
    assert.equal(answer, { status: 'Success', device: '/dev/memory/pvc-1' })
    assert.ok(machine.volumes.has('pvc-1'))
    fails(
      await callOut('/waitforattach', { options: { ...options, 'kubernetes.io/pvOrVolumeName': '../x' } }),
      /as a volume name/,
    )
    fails(await callOut('/waitforattach', { options: { sizeBytes: '1' } }), /as a volume name/)
  }),
)

test(
  '/expandfs grows the volume and says how large it is now',
  withApp(async ({ callOut, machine, target }) => {
    const targetDir = target('a')
    await callOut('/mount', { targetDir, options })
    const newSize = String(2n * gibibyte - 5n)
    for (let i = 0; i < 2; i++)
      assert.equal(await callOut('/expandfs', { targetDir, newSize, options }), {
        status: 'Success',
        volumeNewSize: Number(2n * gibibyte),
      })
    assert.is(machine.volumes.get('pvc-1')?.filesystemBytes, 2n * gibibyte)
    fails(await callOut('/expandfs', { targetDir, newSize: String(8n * gibibyte), options }), /pvc-1/)
    for (const newSize of [undefined, 5, '0', '-1', '1e3', '9223372036854775808', null])
      fails(await callOut('/expandfs', { targetDir, newSize, options }), /Cannot read the new size as a size/)
    fails(await callOut('/expandfs', { targetDir: target('a', 'pvc-2'), newSize, options }), /Cannot find volume pvc-2/)
  }),
)

test(
  'a call-out that cannot be done is a failure that says why, and changes nothing',
  withApp(async ({ callOut, machine, target }) => {
    const targetDir = target('a')
    const cases: [object, RegExp][] = [
      [{}, /targetDir as it must be a path: it is missing/],
      [{ targetDir: 5, options }, /targetDir as it must be a path: it is 5/],
      [{ targetDir: '/etc', options }, /Cannot use \/etc as a target/],
      [{ targetDir: target('a', '..'), options }, /as a target/],
      [{ targetDir: target('a', '-x'), options }, /as a volume name/],
      [{ targetDir }, /options as they must be a JSON object: they are missing/],
      [{ targetDir, options: [] }, /JSON object/],
      [{ targetDir, options: 'sizeBytes' }, /JSON object/],
      [
        { targetDir, options: { ...options, sizeBytes: 5 } },
        /option sizeBytes as it must be a string: it is of type number/,
      ],
      [{ targetDir, options: { ...options, sizeBytes: '0' } }, /option sizeBytes as a size/],
      [{ targetDir, options: { ...options, sizeBytes: '1024' } }, /must be at least 8 MiB: it is 1 KiB/],
      [{ targetDir, options: { ...options, sizeBytes: String(5n * gibibyte) } }, /pool has 4 GiB free/],
      [{ targetDir, options: { ...options, 'kubernetes.io/fsType': 'ntfs' } }, /one of ext4, xfs, btrfs/],
      [{ targetDir, options: { ...options, mountOptions: 'bind' } }, /option "bind"/],
      [{ targetDir, options: { ...options, mkfsOptions: '-d /etc' } }, /with "-d"/],
      [{ targetDir, options: {} }, /Cannot find volume pvc-1/],
      [{ targetDir, options: { 'kubernetes.io/fsType': 'xfs' } }, /Cannot find volume pvc-1/],
    ]
    for (const [body, message] of cases) fails(await callOut('/mount', body), message)
    for (const path of ['/unmount', '/mountdevice', '/unmountdevice', '/expandfs'])
      fails(await callOut(path, { targetDir: '/etc', options, newSize: '1' }), /Cannot use \/etc as a target/)
    assert.equal([machine.mounted.length, machine.volumes.size, machine.intents.size], [0, 0, 0])
  }),
)

test(
  'a fault of the machine is a failure with its words',
  withApp(async ({ callOut, machine, target }) => {
    machine.onStep = (step) => {
      if (step === 'bind') throw new Error('the disk burns')
    }
    fails(await callOut('/mount', { targetDir: target('a'), options }), /^the disk burns$/)
    assert.equal(machine.mounted, [])
  }),
)

test(
  'a body that is no JSON object is a failure that does not show it',
  withApp(async ({ send }) => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
    for (const text of [
      '',
      ' ',
      'rubbish',
      '{',
      '{"targetDir":',
      'null',
      '5',
      '"text"',
      '[]',
      '[{}]',
      '\ufffd\0',
      'x'.repeat(1 << 17),
      deep,
    ]) {
      const response = await send('POST', '/mount', text)
      assert.is(response.status, 200)
      const answer = (await response.json()) as Record<string, unknown>
      fails(
        answer,
        /^Cannot read the request as it must be a JSON object: it is something else, \d+ characters long\.$/,
      )
      assert.ok(String(answer.message).length < 300)
    }
    const nested = await send('POST', '/mount', `{"targetDir":"/x","options":${deep}}`)
    assert.is(((await nested.json()) as Record<string, unknown>).status, 'Failure')
  }),
)

test(
  'a body of 10 MB is refused, whether it says its length or not',
  withApp(async ({ app, machine, target }) => {
    const body = JSON.stringify({ targetDir: target('a'), options: { ...options, padding: 'x'.repeat(10 << 20) } })
    for (const headers of [{}, { 'content-length': String(body.length) }]) {
      const response = await app.request('/mount', { method: 'POST', body, headers })
      assert.is(response.status, 413)
      fails((await response.json()) as Record<string, unknown>, /at most 262144 bytes/)
    }
    assert.is(machine.volumes.size, 0)
  }),
)

test(
  'a stop does not wait for a request that is not whole, for nothing was begun for it',
  withApp(async ({ app, drain, machine, target }) => {
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(Buffer.from(`{"targetDir":"${target('a')}",`)),
    })
    const headers = { 'content-length': '1000' }
    Promise.resolve(app.request('/mount', { method: 'POST', body, headers, duplex: 'half' } as RequestInit))
    await turn()
    await drain.stop()
    assert.is(machine.volumes.size, 0)
  }),
)

test(
  'a route that is none, and a method that a route does not have, are failures with status 404',
  withApp(async ({ ask }) => {
    for (const [method, path] of [
      ['GET', '/'],
      ['GET', '/mount'],
      ['POST', '/init'],
      ['POST', '/Mount'],
      ['POST', '/mount/'],
      ['PUT', '/mount'],
      ['POST', '/attach'],
      ['GET', '/v1'],
      ['DELETE', '/v1/volumes'],
      ['GET', '/v1/volumes/a/b'],
      ['GET', '/..%2fetc'],
    ] as const) {
      const { status, body } = await ask(method, path)
      assert.is(status, 404, `${method} ${path}`)
      const told = path.startsWith('/v1/') ? (body.error as typeof body) : body
      assert.match(String(told.message), /there is no such route/)
    }
  }),
)

test(
  'what a person changes is in the log, with who asked as the client says, also when it is refused',
  withApp(async ({ app, ask, callOut, target, logged, fields }) => {
    await callOut('/mount', { targetDir: target('a'), options })
    logged.length = 0
    fields.length = 0
    const headers = { 'x-elastic-local-user': 'alice (uid 0)\u001b[2J' }
    const request = (method: string, path: string, body?: object) =>
      app.request(path, { method, headers, ...(body ? { body: JSON.stringify(body) } : {}) })
    await request('POST', '/v1/volumes/pvc-1/grow', { sizeBytes: '2Gi' })
    await request('DELETE', '/v1/volumes/pvc-1')
    await callOut('/unmount', { targetDir: target('a') })
    await ask('DELETE', '/v1/volumes/pvc-1')
    await request('POST', '/v1/notes', { what: 'Creation of volume group vg\nwith /dev/sdb' })
    const by = 'requested by alice (uid 0)\\x1b[2J, as the client says'
    const said = logged.filter((line) => line.includes('requested by'))
    assert.equal(said, [
      `Growth of volume pvc-1, ${by}: grown`,
      `Removal of volume pvc-1, ${by}: Cannot remove pvc-1 as it is mounted on ${target('a')}; unmount it first.`,
      'Removal of volume pvc-1, requested by a client that gives no name: removed',
      `Creation of volume group vg with /dev/sdb, ${by}: done`,
    ])
    assert.equal(fields[0], { volume: 'pvc-1', claim: 'default/claim-of-pvc-1' })
    assert.is((await ask('POST', '/v1/notes', { what: 5 })).status, 400)
  }),
)

test(
  '/v1/volumes lists and shows volumes, with sizes as exact texts',
  withApp(async ({ ask, callOut, target }) => {
    assert.equal(await ask('GET', '/v1/volumes'), { status: 200, body: { volumes: [] } })
    await callOut('/mount', { targetDir: target('a'), options })
    const volume = {
      name: 'pvc-1',
      driverKind: 'LVM',
      sizeBytes: '1073741824',
      state: 'ready',
      fsType: 'ext4',
      path: '/dev/memory/pvc-1',
      mounts: [{ target: target('a'), readOnly: false }],
      usage: { sizeBytes: '1073741824', usedBytes: '0', freeBytes: '1073741824', inodes: '100', inodesUsed: '0' },
      claim: { namespace: 'default', name: 'claim-of-pvc-1' },
      problems: [],
    }
    assert.equal(await ask('GET', '/v1/volumes'), { status: 200, body: { volumes: [volume] } })
    assert.equal(await ask('GET', '/v1/volumes/pvc-1'), { status: 200, body: { volume } })
  }),
)

test(
  '/v1/pools tells what is promised and what is left',
  withApp(async ({ ask, callOut, target }) => {
    await callOut('/mount', { targetDir: target('a'), options })
    const { status, body } = await ask('GET', '/v1/pools')
    assert.is(status, 200)
    const [pool] = body.pools as Record<string, unknown>[]
    assert.equal(
      [pool?.sizeBytes, pool?.allocatedBytes, pool?.freeBytes, pool?.volumes],
      ['4294967296', '1073741824', '3221225472', 1],
    )
  }),
)

test(
  'growing and removing by /v1 tell what was done',
  withApp(async ({ ask, callOut, machine, target }) => {
    await callOut('/mount', { targetDir: target('a'), options })
    const grow = async () => await ask('POST', '/v1/volumes/pvc-1/grow', { sizeBytes: '2Gi' })
    const grown = await grow()
    assert.equal([grown.status, grown.body.action], [200, 'grown'])
    assert.is((grown.body.volume as Record<string, unknown>).sizeBytes, '2147483648')
    assert.is((await grow()).body.action, 'unchanged')
    await callOut('/unmount', { targetDir: target('a') })
    assert.equal(await ask('DELETE', '/v1/volumes/pvc-1'), { status: 200, body: { action: 'removed' } })
    assert.equal(await ask('DELETE', '/v1/volumes/pvc-1'), { status: 200, body: { action: 'unchanged' } })
    assert.is(machine.volumes.size, 0)
  }),
)

test(
  'what goes wrong with /v1 has a status and a code of its own',
  withApp(async ({ ask, send, callOut, machine, target }) => {
    await callOut('/mount', { targetDir: target('a'), options })
    const faults: [string, string, object | undefined, number, string, RegExp][] = [
      ['GET', '/v1/volumes/pvc-2', undefined, 404, 'not-found', /Cannot find volume pvc-2/],
      ['GET', '/v1/volumes/a%2Fb', undefined, 400, 'invalid', /volume name/],
      ['GET', '/v1/volumes/PVC', undefined, 400, 'invalid', /volume name/],
      ['DELETE', '/v1/volumes/pvc-1', undefined, 409, 'busy', /mounted on/],
      ['DELETE', '/v1/volumes/%2e%2e%2f', undefined, 400, 'invalid', /volume name/],
      ['POST', '/v1/volumes/pvc-2/grow', { sizeBytes: '2Gi' }, 404, 'not-found', /pvc-2/],
      ['POST', '/v1/volumes/pvc-1/grow', { sizeBytes: '1Ti' }, 507, 'no-space', /pvc-1/],
      ['POST', '/v1/volumes/pvc-1/grow', { sizeBytes: 5 }, 400, 'invalid', /sizeBytes as a size/],
      ['POST', '/v1/volumes/pvc-1/grow', {}, 400, 'invalid', /it is missing/],
    ]
    for (const [method, path, body, status, code, message] of faults) {
      const answer = await ask(method, path, body)
      const error = answer.body.error as { code: string; message: string }
      assert.equal([answer.status, error.code], [status, code], path)
      assert.match(error.message, message)
    }
    assert.is((await send('POST', '/v1/volumes/pvc-1/grow', 'rubbish')).status, 400)
    machine.onStep = () => {
      throw new Error('the disk burns')
    }
    const fault = await ask('POST', '/v1/volumes/pvc-1/grow', { sizeBytes: '2Gi' })
    assert.equal(fault, { status: 500, body: { error: { code: 'failed', message: 'the disk burns' } } })
  }),
)

test(
  'a stopping daemon refuses new work and lets running work end',
  withApp(async ({ ask, callOut, drain, machine, target }) => {
    const { begun, letGo } = hold(machine, 'format')
    const mounting = callOut('/mount', { targetDir: target('a'), options })
    await begun
    let stopped = false
    const stopping = drain.stop().then(() => {
      stopped = true
    })
    for (const path of ['/mount', '/unmount', '/expandfs', '/waitforattach'])
      fails(await callOut(path, { targetDir: target('b', 'pvc-2'), options, newSize: '1' }), /the daemon is stopping/)
    for (const [method, path] of [
      ['GET', '/v1/volumes'],
      ['DELETE', '/v1/volumes/pvc-1'],
      ['GET', '/v1/pools'],
    ] as const) {
      const { status, body } = await ask(method, path)
      assert.equal([status, (body.error as { code: string }).code], [503, 'stopping'])
    }
    assert.not.ok(stopped)
    letGo()
    assert.equal(await mounting, success)
    await stopping
    assert.equal([...machine.volumes.keys()], ['pvc-1'])
  }),
)

test(
  'slow work is preceded by white space, and ends in the answer',
  withApp(async ({ send, machine, target }) => {
    const { letGo } = hold(machine, 'format')
    const response = await send('POST', '/mount', JSON.stringify({ targetDir: target('a'), options }))
    assert.is(response.headers.get('content-type'), 'application/json')
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    assert.is(new TextDecoder().decode((await reader.read()).value), '\n')
    assert.equal(machine.mounted, [])
    letGo()
    let text = ''
    for (let part = await reader.read(); !part.done; part = await reader.read())
      text += new TextDecoder().decode(part.value)
    assert.equal(JSON.parse(text), success)
    assert.is(machine.mounted.length, 2)
  }),
)

test(
  'slow work that fails ends in the failure, in the shape of its route',
  withApp(async ({ send, callOut, machine, target }) => {
    await callOut('/mount', { targetDir: target('a'), options })
    const { letGo } = hold(machine, 'grow')
    const response = await send('POST', '/v1/volumes/pvc-1/grow', JSON.stringify({ sizeBytes: '2Gi' }))
    machine.volumes.clear()
    letGo()
    assert.is(response.status, 200)
    assert.match((await response.text()).trim(), /^\{"error":\{"code":"not-found",/)
  }),
)

test(
  'work goes on to its end when the asker goes away',
  withApp(async ({ send, drain, machine, target }) => {
    const { letGo } = hold(machine, 'format')
    const response = await send('POST', '/mount', JSON.stringify({ targetDir: target('a'), options }))
    await response.body?.cancel()
    letGo()
    await drain.stop()
    assert.equal(
      machine.mounted.map((mount) => mount.target),
      ['/volumes/pvc-1', target('a')],
    )
  }),
)

test.run()
