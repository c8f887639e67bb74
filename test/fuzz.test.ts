/**
 * What comes from outside, made up and mangled, 100,000 times each (ELASTIC_LOCAL_FUZZ_RUNS): it is understood or refused
 * with an error that says why in one line, and nothing crashes. Process starts are dearer: there are fewer of them.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { build } from '../build.mjs'
import { buildApp } from '../src/daemon/app.ts'
import { Drain } from '../src/daemon/drain.ts'
import { buildStandaloneFront } from '../src/daemon/front.ts'
import { buildCallOuts } from '../src/flex/call-outs.ts'
import { parseOptions } from '../src/flex/options.ts'
import { decodeCallOut, decodeDaemonAnswer, type FlexAnswer, formatAnswer } from '../src/flex/protocol.ts'
import { parseAnswer, parseLogicalVolume, parseVolumeGroup } from '../src/lvm/report.ts'
import { buildMountTable, parseMountInfo } from '../src/mount/table.ts'
import { CommandError } from '../src/run.ts'
import { Engine } from '../src/volume/engine.ts'
import { VolumeError } from '../src/volume/errors.ts'
import { MemoryMachine } from '../src/volume/memory.ts'
import { parseVolumeName } from '../src/volume/name.ts'
import { fixtureNames, readFixture } from './lvm-fixtures.ts'
import { withScratch } from './scratch.ts'
import { suite } from './suite.ts'

const test = suite('fuzzing')
const numRuns = Number(process.env.ELASTIC_LOCAL_FUZZ_RUNS ?? 100_000)
const processRuns = Math.ceil(numRuns / 250)

const pieces = [
  '\0',
  '\n',
  '\r\n',
  ' ',
  '"',
  '\\',
  '{',
  '}',
  '[',
  ',',
  ':',
  '/',
  '..',
  '=',
  '-',
  '%',
  '💾',
  '\ud800',
  '9'.repeat(30),
]
const piece = fc.oneof(fc.constantFrom(...pieces), fc.string({ unit: 'binary', maxLength: 6 }))
const noise = fc.oneof(fc.string({ unit: 'binary', maxLength: 40 }), fc.json({ maxDepth: 3 }), piece)

/** One of the texts with a few places changed, removed or doubled, or as it is. */
function mangled(...texts: readonly string[]): fc.Arbitrary<string> {
  const edit = fc.record({ at: fc.nat(1 << 20), removed: fc.nat(6), put: piece, doubled: fc.boolean() })
  return fc.tuple(fc.constantFrom(...texts), fc.array(edit, { maxLength: 3 })).map(([text, edits]) =>
    edits.reduce((now, { at, removed, put, doubled }) => {
      const place = at % (now.length + 1)
      const rest = now.slice(doubled ? place : place + removed)
      return `${now.slice(0, doubled ? place + removed : place)}${put}${rest}`
    }, text),
  )
}

const volumeName = 'pvc-0b5d3c1e-7a52-4f8e-9c1d-2f6f0a1b2c3d'
const values: Record<string, string[]> = {
  'kubernetes.io/fsType': ['ext4', 'xfs', 'btrfs', ''],
  'kubernetes.io/readwrite': ['rw', 'ro'],
  'kubernetes.io/pvOrVolumeName': [volumeName, 'one', '../one'],
  'kubernetes.io/pod.name': ['pod-1'],
  'kubernetes.io/pod.namespace': ['default'],
  'kubernetes.io/pod.uid': ['11111111-aaaa-4000-8000-000000000001'],
  'kubernetes.io/secret/password': ['c2VjcmV0'],
  sizeBytes: ['1073741824', '1Gi', '8388608', '9223372036854775807', '-1'],
  mkfsOptions: ['-b 4096 -O ^has_journal', '-m crc=1,reflink=0', '--mixed -n 4096', '-d /etc', '-J device=sda'],
  mountOptions: ['noatime,discard', 'ro', 'suid', 'remount,bind', 'data=journal,commit=5', 'helper=sh'],
  key: ['0123456789abcdef'],
  __proto__: ['x'],
}
/** Options as the kubelet joins them, among them some that nobody should give. */
const options = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record(Object.fromEntries(Object.entries(values).map(([key, texts]) => [key, mangled(...texts)])), {
      requiredKeys: [],
    }),
  },
  {
    weight: 1,
    arbitrary: fc.dictionary(
      fc.oneof(fc.constantFrom(...Object.keys(values)), noise),
      fc.oneof(noise, fc.jsonValue({ maxDepth: 1 })),
      { maxKeys: 4 },
    ),
  },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
)
const optionsText = fc.oneof(
  options.map((given) => JSON.stringify(given) ?? ''),
  mangled(JSON.stringify({ sizeBytes: '1073741824', 'kubernetes.io/fsType': 'ext4' })),
)

const target = `/pods/11111111-aaaa-4000-8000-000000000001/volumes/volumes.k8s.elastic.co~elastic-local/${volumeName}`
const verbs = [
  'init',
  'getvolumename',
  'attach',
  'waitforattach',
  'isattached',
  'detach',
  'mountdevice',
  'unmountdevice',
  'mount',
  'unmount',
  'expandvolume',
  'expandfs',
]
const callOut = fc
  .tuple(
    fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...verbs) }, { weight: 1, arbitrary: noise }),
    fc.array(fc.oneof(optionsText, mangled(target, 'node-1', 'elastic-local/pvc-1', '1073741824', '--help')), {
      maxLength: 6,
    }),
  )
  .map(([verb, rest]) => [verb, ...rest])

/** Fails unless the text is one line of JSON that the kubelet understands. */
function mustBeOneLine(text: string): FlexAnswer {
  assert.match(text, /^[^\n\r]+\n$/)
  const answer = JSON.parse(text) as FlexAnswer
  assert.ok(['Success', 'Failure', 'Not supported'].includes(answer.status), text)
  return answer
}

/** What the work gives, or nothing where it refused in the one way it may. */
function unlessRefused<T>(kind: new (...args: never[]) => Error, work: () => T): T | undefined {
  try {
    return work()
  } catch (error) {
    if (!(error instanceof kind)) throw error
    return undefined
  }
}

test('any call-out is an answer of one line or a request', () => {
  fc.assert(
    fc.property(callOut, fc.boolean(), (args, attach) => {
      const task = decodeCallOut(args, { attach })
      if ('answer' in task) return void mustBeOneLine(formatAnswer(task.answer))
      assert.ok(task.request.path.startsWith('/'))
      assert.not.match(JSON.stringify(task.request.body), '\n')
    }),
    { numRuns },
  )
})

test("whatever answers in the daemon's place becomes one line", () => {
  const field = fc.oneof(fc.jsonValue({ maxDepth: 1 }), mangled('Success', 'Failure', 'Not supported', '/dev/loop0'))
  const shape = {
    status: field,
    message: field,
    device: field,
    volumeName: field,
    attached: field,
    volumeNewSize: field,
  }
  const answer = fc.oneof(fc.record(shape, { requiredKeys: [] }), fc.jsonValue({ maxDepth: 2 }))
  fc.assert(
    fc.property(fc.integer(), answer, (statusCode, body) => {
      mustBeOneLine(formatAnswer(decodeDaemonAnswer(statusCode, body)))
    }),
    { numRuns },
  )
})

test('any options are understood, with nothing in them that reaches beyond the volume, or refused in one line', () => {
  fc.assert(
    fc.property(options, (given) => {
      try {
        const { mountOptions, mkfsOptions, sizeBytes = 1n } = parseOptions(given)
        for (const word of [...mountOptions, ...mkfsOptions]) assert.not.match(word, /[/\s\0"'$`\\]/)
        for (const word of mountOptions) assert.not.match(word, /^(suid|dev|bind|remount|helper|loop|x-)/)
        assert.ok(sizeBytes > 0n && sizeBytes < 2n ** 63n)
      } catch (error) {
        if (!(error instanceof VolumeError && error.code === 'invalid')) throw error
        assert.not.match(error.message, /[\n\r\0]/)
      }
    }),
    { numRuns },
  )
})

test('any mount table is read or refused, and what is read can be asked', () => {
  const lines = [
    '27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard',
    '41 27 7:0 / /volumes/one rw,relatime - ext4 /dev/loop0 rw',
    '44 27 0:45 /@data /volumes/two rw - btrfs /dev/loop1 rw,subvol=/@data',
    '49 27 0:51 / /mnt/t\\303\\244st\\040x rw master:1 propagate_from:2 - tmpfs t\\303 rw',
    '45 40 8:17 /data/three /pods/a/three rw,noatime - xfs /dev/sdb1 rw,attr2',
  ]
  const table = fc.array(fc.oneof({ weight: 9, arbitrary: mangled(...lines) }, { weight: 1, arbitrary: noise }), {
    maxLength: 5,
  })
  fc.assert(
    fc.property(table, (given) => {
      const entries = unlessRefused(VolumeError, () => parseMountInfo(given.join('\n')))
      if (!entries) return
      const mounts = buildMountTable(entries)
      for (const { target } of entries) assert.is(mounts.at(target)?.target, target)
      mounts.of({ kind: 'device', path: '/dev/loop0' })
      mounts.of({ kind: 'directory', path: '/volumes/one/sub' })
      assert.ok(mounts.under('/volumes').length <= entries.length)
    }),
    { numRuns },
  )
})

test("any answer of LVM's shell is read or refused, and so is each of its rows", () => {
  const texts = fixtureNames().map((name) => readFixture(name).text)
  const short = texts.filter((text) => text.length < 6000)
  const { lv, vg } = texts
    .map((text) => unlessRefused(CommandError, () => parseAnswer(['lvs'], text)))
    .reduce<{ lv: string[]; vg: string[] }>(
      (all, answer) => ({
        lv: [...all.lv, ...(answer?.lv ?? []).map((row) => JSON.stringify(row))],
        vg: [...all.vg, ...(answer?.vg ?? []).map((row) => JSON.stringify(row))],
      }),
      { lv: [], vg: [] },
    )
  assert.ok(lv.length > 0 && vg.length > 0)
  const row = mangled(...lv, ...vg)
  // A row that is still JSON goes into an answer that is whole, so that more than the frame is tried.
  const framed = fc.array(row, { maxLength: 3 }).map((rows) => {
    const log = [{ log_type: 'status', log_object_name: '', log_message: 'success', log_ret_code: '1' }]
    return `{"report":[{"lv":[${rows.join(',')}],"vg":[${rows.join(',')}]}],"log":${JSON.stringify(log)}}`
  })
  fc.assert(
    fc.property(
      fc.oneof(
        { weight: 3, arbitrary: framed },
        { weight: 1, arbitrary: mangled(...short) },
        { weight: 1, arbitrary: noise },
      ),
      (text) => {
        const answer = unlessRefused(CommandError, () => parseAnswer(['lvs'], text))
        for (const found of answer?.lv ?? []) {
          const volume = unlessRefused(VolumeError, () => parseLogicalVolume(found))
          assert.ok(volume === undefined || volume.sizeBytes >= 0n)
        }
        for (const found of answer?.vg ?? []) unlessRefused(VolumeError, () => parseVolumeGroup(found))
      },
    ),
    { numRuns },
  )
})

test('any body of any request is answered with one JSON document, and no volume gets a name that is none', () =>
  withScratch(async (kubeletDir) => {
    const { pool, mounts, filesystems, journal, volumes } = new MemoryMachine({ capacityBytes: 1n << 40n })
    const log = { info: () => {}, warn: () => {} }
    const engine = new Engine({ pool, mounts, filesystems, journal, volumesDir: '/volumes', log })
    await engine.start()
    const front = buildStandaloneFront(engine)
    const app = buildApp({ engine, drain: new Drain(), callOuts: buildCallOuts(kubeletDir), front, version: '1', log })
    const path = fc.oneof(
      {
        weight: 9,
        arbitrary: fc.constantFrom(
          '/mount',
          '/unmount',
          '/mountdevice',
          '/waitforattach',
          '/expandfs',
          '/v1/volumes/one/grow',
        ),
      },
      { weight: 1, arbitrary: noise.map((text) => `/${encodeURIComponent(text.toWellFormed())}`) },
    )
    const targetDir = mangled(`${kubeletDir}${target}`, `${kubeletDir}/../etc`)
    const fields = {
      targetDir: fc.oneof(targetDir, fc.jsonValue({ maxDepth: 1 })),
      options,
      newSize: mangled('1Gi'),
      sizeBytes: mangled('5'),
    }
    const body = fc.oneof(
      { weight: 3, arbitrary: fc.record(fields, { requiredKeys: [] }).map((given) => JSON.stringify(given)) },
      {
        weight: 1,
        arbitrary: mangled(JSON.stringify({ targetDir: `${kubeletDir}${target}`, options: { sizeBytes: '5' } })),
      },
      { weight: 1, arbitrary: noise },
    )
    await fc.assert(
      fc.asyncProperty(path, body, async (path, body) => {
        const response = await app.request(path, { method: 'POST', body })
        assert.ok([200, 400, 404, 409, 507].includes(response.status), `${response.status}`)
        const text = await response.text()
        assert.ok(['{', '"'].includes(text.trimStart()[0] ?? ''), text)
        JSON.parse(text)
        assert.not.match(text.trim(), '\n')
        for (const name of volumes.keys()) parseVolumeName(name)
        volumes.clear()
      }),
      { numRuns },
    )
  }))

test('the built executable writes one line for any call-out, and nothing else', async () => {
  const executable = await build({ log: () => {} })
  const env = { PATH: process.env.PATH, ELASTIC_LOCAL_SOCKET: join(import.meta.dirname, 'no-such-socket') }
  const run = async (args: readonly string[]) => {
    const child = spawn(executable, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
    let said = ''
    // The kubelet joins them as well.
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (said += text))
    await once(child, 'close')
    mustBeOneLine(said)
  }
  const argument = (text: string) => text.replaceAll('\0', '')
  const flexOnly = callOut.map(([verb = '', ...rest]) => [verbs.includes(verb) ? verb : 'mount', ...rest].map(argument))
  await fc.assert(
    fc.asyncProperty(
      fc.array(flexOnly, { minLength: availableParallelism(), maxLength: availableParallelism() }),
      async (batch) => {
        await Promise.all(batch.map(run))
      },
    ),
    { numRuns: Math.ceil(processRuns / availableParallelism()) },
  )
})

test.run()
