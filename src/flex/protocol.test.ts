import fc from 'fast-check'
import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { decodeCallOut, decodeDaemonAnswer, type FlexAnswer, formatAnswer, isFlexVerb } from './protocol.ts'

const test = suite('flex protocol')
const options = { 'kubernetes.io/pvOrVolumeName': 'pvc-1', 'kubernetes.io/fsType': 'xfs', sizeBytes: '1024' }
const json = JSON.stringify(options)
const pod = '/var/lib/kubelet/pods/u/volumes/d/pvc-1'
const global = '/var/lib/kubelet/plugins/kubernetes.io/flexvolume/volumes.k8s.elastic.co/elastic-local/mounts/pvc-1'
const device = 'elastic-local/pvc-1'

const answered = (args: string[], attach = false) => {
  const task = decodeCallOut(args, { attach })
  if (!('answer' in task)) throw new Error(`${args[0]} is not answered at once.`)
  return task.answer
}
const asked = (args: string[], attach = false) => {
  const task = decodeCallOut(args, { attach })
  if (!('request' in task)) throw new Error(`${args[0]} asks nothing: ${task.answer.message}`)
  return task.request
}

test('init reports what the driver can do', () => {
  const capabilities = {
    attach: false,
    supportsMetrics: true,
    fsGroup: true,
    selinuxRelabel: true,
    requiresFSResize: true,
  }
  assert.equal(answered(['init']), { status: 'Success', capabilities })
  assert.equal(answered(['init'], true), { status: 'Success', capabilities: { ...capabilities, attach: true } })
})

test('getvolumename, attach, isattached, detach and expandvolume answer from their arguments alone', () => {
  assert.equal(answered(['getvolumename', json]), { status: 'Success', volumeName: 'pvc-1' })
  assert.equal(answered(['attach', json, 'node-1'], true), { status: 'Success', device })
  assert.equal(answered(['isattached', json, 'node-1'], true), { status: 'Success', attached: true })
  assert.equal(answered(['detach', 'pvc-1', 'node-1'], true), { status: 'Success' })
  assert.equal(answered(['expandvolume', json, global, '2048', '1024']), { status: 'Success' })
})

test("the other verbs become requests, in the kubelet's order of arguments", () => {
  assert.equal(asked(['mount', pod, json]), { path: '/mount', body: { targetDir: pod, options } })
  assert.equal(asked(['unmount', pod]), { path: '/unmount', body: { targetDir: pod } })
  assert.equal(asked(['waitforattach', device, json], true), { path: '/waitforattach', body: { device, options } })
  assert.equal(asked(['mountdevice', global, device, json], true), {
    path: '/mountdevice',
    body: { targetDir: global, device, options },
  })
  assert.equal(asked(['unmountdevice', global], true), { path: '/unmountdevice', body: { targetDir: global } })
  assert.equal(asked(['expandfs', json, device, global, '9223372036854775807', '1024'], true), {
    path: '/expandfs',
    body: { device, targetDir: global, newSize: '9223372036854775807', oldSize: '1024', options },
  })
})

test('expandfs takes the empty device that a driver without attach is given', () => {
  assert.equal(asked(['expandfs', json, '', pod, '2', '1']).body, {
    device: '',
    targetDir: pod,
    newSize: '2',
    oldSize: '1',
    options,
  })
})

test('what is no verb is not supported, in exactly the words of the kubelet', () => {
  for (const args of [
    [],
    [''],
    ['help'],
    ['Init'],
    ['toString'],
    ['__proto__'],
    ['constructor'],
    ['mount ', pod, json],
  ])
    assert.is(formatAnswer(answered(args)), '{"status":"Not supported"}\n')
})

test('verbs of the attach mode are not supported out of it', () => {
  for (const verb of ['attach', 'waitforattach', 'isattached', 'detach', 'mountdevice', 'unmountdevice']) {
    assert.equal(answered([verb, json, 'node-1']), { status: 'Not supported' })
    assert.ok(isFlexVerb(verb))
  }
})

test('a wrong number of arguments is a failure that shows the right one', () => {
  for (const args of [
    ['mount'],
    ['mount', pod],
    ['mount', pod, json, 'x'],
    ['unmount'],
    ['expandfs', json],
    ['getvolumename'],
  ]) {
    const answer = answered(args)
    assert.is(answer.status, 'Failure')
    assert.match(
      answer.message ?? '',
      new RegExp(`Cannot run ${args[0]} with ${args.length - 1} arguments .*: ${args[0]} <`),
    )
  }
})

test('options that are no JSON object of strings are a failure that shows no value', () => {
  for (const [text, said] of [
    ['', /JSON: they are 0 characters/],
    ['{"kubernetes.io/secret/a":"geheim"', /must be JSON/],
    ['"geheim"', /an object|a string/],
    ['null', /null/],
    ['["geheim"]', /an array/],
    ['{"a":1234567}', /option a must be a string: it is of type number/],
    ['{"a":null}', /it is null/],
    ['{"a":{"b":"geheim"}}', /of type object/],
  ] as const) {
    const answer = answered(['mount', pod, text])
    assert.is(answer.status, 'Failure')
    assert.match(answer.message ?? '', said)
    assert.not.match(answer.message ?? '', /geheim|1234567/)
  }
})

test('an empty target and a missing volume name are failures', () => {
  assert.match(answered(['mount', '', json]).message ?? '', /<dir> must be an absolute path/)
  assert.match(answered(['getvolumename', '{}']).message ?? '', /kubernetes.io\/pvOrVolumeName/)
  assert.match(answered(['attach', '{"kubernetes.io/pvOrVolumeName":""}', 'n'], true).message ?? '', /missing or empty/)
})

test('options keep keys that mean something to JavaScript', () => {
  const text = '{"__proto__":"a","constructor":"b"}'
  assert.is(JSON.stringify(asked(['mount', pod, text]).body.options), text)
})

test('decodeDaemonAnswer() passes on the fields that the kubelet knows, and no others', () => {
  const full = { status: 'Success', message: 'm', device: 'd', volumeName: 'v', attached: false, volumeNewSize: 5 }
  assert.equal(decodeDaemonAnswer(200, { ...full, secret: 'x', capabilities: {} }), full)
  assert.equal(decodeDaemonAnswer(200, { status: 'Not supported' }), { status: 'Not supported' })
  assert.equal(decodeDaemonAnswer(409, { status: 'Failure', message: 'busy' }), { status: 'Failure', message: 'busy' })
  assert.equal(decodeDaemonAnswer(200, { status: 'Success', message: null }), { status: 'Success' })
})

test('decodeDaemonAnswer() makes a failure of what is no answer', () => {
  for (const [code, body, said] of [
    [200, null, /JSON object/],
    [200, [], /status must be/],
    [200, 'Success', /JSON object/],
    [200, {}, /it is missing/],
    [404, { error: 'no such route' }, /HTTP 404/],
    [200, { status: 'success' }, /it is "success"/],
    [500, { status: 'Success' }, /200 to 299/],
    [200, { status: 'Success', device: 1 }, /device must be a string: it is 1/],
    [200, { status: 'Success', attached: 'true' }, /attached must be a boolean/],
    [200, { status: 'Success', volumeNewSize: 1.5 }, /whole number/],
    [200, { status: 'Success', volumeNewSize: 2 ** 60 }, /whole number/],
  ] as const) {
    const answer = decodeDaemonAnswer(code, body)
    assert.is(answer.status, 'Failure')
    assert.match(answer.message ?? '', said)
  }
  assert.match(decodeDaemonAnswer(500, { status: 'Failure' }).message ?? '', /gave no reason/)
})

const isOneLine = (line: string) => {
  assert.match(line, /^[^\n\r]+\n$/)
  const { status } = JSON.parse(line) as FlexAnswer
  assert.ok(['Success', 'Failure', 'Not supported'].includes(status))
}

test('formatAnswer() makes one line of any message, and cuts long ones', () => {
  isOneLine(formatAnswer({ status: 'Failure', message: 'a\nb\r"c"\u0000' }))
  assert.ok(formatAnswer({ status: 'Failure', message: 'x'.repeat(1e6) }).length < 5000)
})

const verb = fc.constantFrom(
  ...['init', 'getvolumename', 'attach', 'waitforattach', 'isattached', 'detach', 'mountdevice', 'unmountdevice'],
  ...['mount', 'unmount', 'expandvolume', 'expandfs', 'nonsense', ''],
)
const argument = fc.oneof(fc.string({ unit: 'binary' }), fc.json(), fc.constant(json), fc.constant(pod))

test('decodeCallOut() makes an answer of one line, or a request, of any arguments', () => {
  fc.assert(
    fc.property(verb, fc.array(argument, { maxLength: 6 }), fc.boolean(), (verb, rest, attach) => {
      const task = decodeCallOut([verb, ...rest], { attach })
      if ('answer' in task) isOneLine(formatAnswer(task.answer))
      else assert.match(task.request.path, /^\/[a-z]+$/)
    }),
    { numRuns: 1000 },
  )
})

test('decodeDaemonAnswer() makes an answer of one line of any JSON', () => {
  const field = fc.oneof(fc.constantFrom('Success', 'Failure', 'Not supported'), fc.jsonValue())
  const shape = fc.record({ status: field, message: field, device: field, volumeNewSize: field }, { requiredKeys: [] })
  fc.assert(
    fc.property(fc.integer({ min: 100, max: 599 }), fc.oneof(shape, fc.jsonValue()), (code, body) =>
      isOneLine(formatAnswer(decodeDaemonAnswer(code, body))),
    ),
    { numRuns: 1000 },
  )
})

test.run()
