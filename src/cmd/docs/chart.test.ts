import { readFile } from 'node:fs/promises'
import { Ajv } from 'ajv'
import * as assert from 'uvu/assert'
import { parse } from 'yaml'
import { suite } from '../../../test/suite.ts'
import { commonFlags } from '../flags.ts'
import { daemonCommand } from '../roles/daemon.ts'
import { provisionerCommand } from '../roles/provisioner.ts'
import { buildHelmPage, chartFiles, formatSchema, groupsExample, readValues, settings, valuesSchema } from './chart.ts'

const test = suite('chart')
const isValid = new Ajv({ strict: true }).compile(valuesSchema)
const yaml = await readFile(chartFiles.values, 'utf8')

test('docs/helm.md and the schema of the chart are what code and values.yaml say; "make docs" makes them so', async () => {
  assert.fixture(await readFile(chartFiles.schema, 'utf8'), formatSchema())
  assert.fixture(await readFile(chartFiles.page, 'utf8'), buildHelmPage(yaml))
})

test('the settings are all flags that there are, but those that the chart itself sets', () => {
  const left = (component: keyof typeof settings, flags: object) =>
    Object.keys({ ...flags, ...commonFlags }).filter((name) => !Object.hasOwn(settings[component], name))
  assert.equal(left('daemon', daemonCommand.flags), ['nodeName', 'standalone', 'kubeconfig', 'namespace'])
  assert.equal(left('provisioner', provisionerCommand.flags), ['socket', 'kubeconfig', 'namespace', 'page'])
  for (const flags of Object.values(settings))
    for (const flag of Object.values(flags)) assert.ok(flag.env[0], `--${flag.name} has no environment variable`)
})

test('what the schema takes for a setting, the program takes as well', () => {
  const samples = [
    true,
    false,
    '',
    'a',
    'a b',
    '-a',
    '/',
    '/a',
    '/a b',
    'a/b',
    `/${'a'.repeat(107)}`,
    'LVM',
    'lvm',
    'json',
  ]
  const numbers = [-1, 0, 0.5, 1, 1.5, 100, 101, 1000, 1001, 31_536_000, 31_536_001]
  const durations = ['5m', '1h30m', '299d', '999h', '99999m', '9999999s', '366d', '1m1h', 'm']
  const addresses = [':9810', '9810', '127.0.0.1:9810', '[::1]:9810', 'host:1', ':123456']
  let [taken, refused] = [0, 0]
  for (const [component, flags] of Object.entries(settings))
    for (const [name, flag] of Object.entries(flags))
      for (const value of [...samples, ...numbers, ...durations, ...addresses]) {
        const isTaken = isValid({ [component]: { settings: { [name]: value } } })
        if (isTaken) taken += 1
        else refused += 1
        // A variable that is empty counts as not set.
        if (isTaken && value !== '') assert.is.not(flag.parse(String(value)), undefined, `${name}: ${value}`)
      }
  assert.ok(taken > 40 && refused > 400, `${taken} taken, ${refused} refused`)
})

test('the defaults and the example of the page are valid, and each value has its line', () => {
  for (const values of [parse(yaml), parse(groupsExample)]) assert.ok(isValid(values), JSON.stringify(isValid.errors))
  assert.equal(readValues('# One.\na: 1\n# Two,\n# and more.\nb: { c: d }\ne:\n  # Three.\n  f: []\n'), [
    { path: 'a', default: '1', meaning: 'One.' },
    { path: 'b', default: '{"c":"d"}', meaning: 'Two, and more.' },
    { path: 'e.f', default: '[]', meaning: 'Three.' },
  ])
  assert.throws(() => readValues('# One.\na: 1\nb: 2\n'), /Cannot describe b/)
})

test.run()
