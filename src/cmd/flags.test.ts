import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import {
  commonFlags,
  daemonFlags,
  type Flags,
  machineFlags,
  outputFlag,
  pluginDirFlag,
  resolveFlags,
  statusFlags,
  toggle,
} from './flags.ts'
import { UsageError } from './usage-error.ts'

const test = suite('flags')
const all: Flags = { ...machineFlags, ...daemonFlags, ...statusFlags, ...commonFlags, pluginDir: pluginDirFlag }
const given = (flags: Record<string, string>) => new Map(Object.entries(flags))

test('resolveFlags() gives the defaults of the design', () => {
  assert.equal(resolveFlags(machineFlags, new Map(), {}), {
    driverKind: 'LVM',
    volumesDir: '/mnt/elastic-local-volumes',
    lvmVolumeGroup: 'elastic-local-vg',
    lvmUseThinVolumes: false,
    lvmThinPool: 'elastic-local-thinpool',
    lvmThinOvercommitRatio: 1,
    lvmThinDataWatermark: 90,
    lvmThinMetadataWatermark: 80,
    loopPreallocate: false,
    hostTools: false,
  })
  const { nodeName, ...rest } = resolveFlags(daemonFlags, new Map(), {})
  assert.equal(rest, {
    socket: '/var/run/elastic-local/socket',
    kubeletDir: '/var/lib/kubelet',
    csi: false,
    takeover: false,
    removeOrphansAfter: undefined,
    unmountOrphansAfter: 3600,
    standalone: false,
    flex: true,
  })
  assert.is(nodeName, undefined)
})

test('resolveFlags() takes the flag before the environment before the default', () => {
  const env = {
    ELASTIC_LOCAL_SOCKET: '/env',
    ELASTIC_LOCAL_KUBELET_DIR: '',
    NODE_NAME: 'n2',
    ELASTIC_LOCAL_STANDALONE: '1',
  }
  assert.equal(resolveFlags(daemonFlags, given({ socket: '/flag' }), env), {
    socket: '/flag',
    nodeName: 'n2',
    kubeletDir: '/var/lib/kubelet',
    csi: false,
    takeover: false,
    removeOrphansAfter: undefined,
    unmountOrphansAfter: 3600,
    standalone: true,
    flex: true,
  })
  assert.is(resolveFlags(daemonFlags, new Map(), env).socket, '/env')
  assert.is(resolveFlags(daemonFlags, new Map(), { ...env, ELASTIC_LOCAL_NODE_NAME: 'n1' }).nodeName, 'n1')
  assert.is(resolveFlags(daemonFlags, given({ standalone: 'false' }), env).standalone, false)
})

test('the keys of flags are their names in camel case, and no two have a name or a variable in common', () => {
  const seen = new Set<string>()
  for (const [key, flag] of Object.entries(all)) {
    assert.is(
      key,
      flag.name.replace(/-./g, (dash) => dash.slice(1).toUpperCase()),
    )
    for (const name of [flag.name, ...flag.env]) {
      assert.not(seen.has(name), name)
      seen.add(name)
    }
    assert.is(flag.env[0], `ELASTIC_LOCAL_${flag.name.toUpperCase().replaceAll('-', '_')}`)
  }
})

test('resolveFlags() refuses a wrong value and says where it came from and what it must be', () => {
  const wrong: Record<string, string[]> = {
    driverKind: ['', 'lvm', 'X', 'LVM '],
    volumesDir: ['', 'relative', './x'],
    lvmVolumeGroup: ['', '-x', '.', 'a b', 'a/b', 'x'.repeat(128), 'ü'],
    lvmThinOvercommitRatio: ['0', '-1', '1e3', '0x10', '.5', '1001', 'NaN', 'Infinity', ' 1'],
    lvmThinDataWatermark: ['0', '101', '1e1', '90%', '50.5', '', '-5'],
    lvmUseThinVolumes: ['yes', 'TRUE', '', 'on', '2'],
    nodeName: ['', 'A', 'a_b', '-a', 'a.', 'x'.repeat(254)],
    socket: ['relative', `/${'x'.repeat(107)}`],
    removeOrphansAfter: ['-5m', '5x', '1.5h', '1m1h', '366d', '31536001', ' 5m', '1h 5m'],
    unmountOrphansAfter: ['', 'm', '5M'],
    logLevel: ['verbose', 'INFO'],
    logFormat: ['', 'JSON'],
    httpAddress: [
      '',
      '9810',
      ':',
      ':65536',
      'localhost:1',
      '1.2.3:1',
      '::1:1',
      '[1.2.3.4]:1',
      '[x]:1',
      '1.2.3.4:',
      ':1e3',
    ],
  }
  for (const [key, texts] of Object.entries(wrong)) {
    const flag = all[key]
    if (!flag) throw new Error(`There is no flag ${key}.`)
    for (const text of texts) {
      const check = (source: string) => (error: Error) =>
        error instanceof UsageError &&
        error.message === `Cannot use ${source} as it must be ${flag.mustBe}: it is ${JSON.stringify(text)}.`
      assert.throws(
        () => resolveFlags({ flag }, given({ [flag.name]: text }), {}),
        check(`--${flag.name}`),
        `${key} ${text}`,
      )
      const [variable = ''] = flag.env
      if (text) assert.throws(() => resolveFlags({ flag }, new Map(), { [variable]: text }), check(variable))
    }
  }
  assert.throws(
    () => resolveFlags(machineFlags, given({ 'driver-kind': 'X' }), {}),
    /^UsageError: Cannot use --driver-kind as it must be LVM, LOOP or BINDMOUNT: it is "X"\.$|^Cannot use --driver-kind as it must be LVM, LOOP or BINDMOUNT: it is "X"\.$/,
  )
})

test('durations are written as people write them, or as seconds', () => {
  for (const [text, seconds] of [
    ['0', 0],
    ['90', 90],
    ['30s', 30],
    ['5m', 300],
    ['1h30m', 5400],
    ['1d2h3m4s', 93_784],
    ['365d', 31_536_000],
  ] as const)
    assert.is(daemonFlags.removeOrphansAfter.parse(text), seconds, text)
})

test('--http-address takes an address with a port, and a port alone', () => {
  const addressOf = (text: string) => resolveFlags(statusFlags, given({ 'http-address': text }), {}).httpAddress
  assert.equal(addressOf(':9810'), { port: 9810 })
  assert.equal(addressOf('0.0.0.0:0'), { host: '0.0.0.0', port: 0 })
  assert.equal(addressOf('[::1]:65535'), { host: '::1', port: 65535 })
})

test('resolveFlags() takes the values at the edges', () => {
  const values = resolveFlags(
    { ...machineFlags, socket: daemonFlags.socket },
    given({
      'lvm-thin-overcommit-ratio': '0.001',
      'lvm-thin-data-watermark': '100',
      'lvm-thin-metadata-watermark': '1',
      'lvm-volume-group': '1e3',
      'volumes-dir': '/a//b/../c/',
      socket: `/${'x'.repeat(106)}`,
    }),
    {},
  )
  assert.is(values.lvmThinOvercommitRatio, 0.001)
  assert.is(values.lvmThinDataWatermark, 100)
  assert.is(values.lvmThinMetadataWatermark, 1)
  assert.is(values.lvmVolumeGroup, '1e3')
  assert.is(values.volumesDir, '/a/c')
  assert.is(values.socket.length, 107)
})

test('toggle() and outputFlag() have no environment variable', () => {
  assert.equal([toggle('yes', '').env, outputFlag('table', 'json').env], [[], []])
  assert.is(resolveFlags({ output: outputFlag('table', 'json') }, new Map(), {}).output, 'table')
})

test.run()
