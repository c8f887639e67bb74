import { readdir, readFile } from 'node:fs/promises'
import { dirname, join, normalize } from 'node:path'
import * as assert from 'uvu/assert'
import { suite } from '../suite.ts'

const test = suite('rooms of the sources')

/**
 * Which rooms each room may import. What lies in none, `text`, and how errors are said (`volume/errors.ts`) are for all; `cmd` puts
 * everything together.
 */
const mayImport: Readonly<Record<string, readonly string[]>> = {
  volume: [],
  lvm: ['volume'],
  mount: ['volume'],
  disks: ['volume', 'lvm', 'mount'],
  text: [],
  status: ['volume', 'k8s/provisioner'],
  daemon: ['volume', 'status'],
  flex: ['volume', 'daemon'],
  csi: ['volume', 'daemon'],
  'k8s/client': [],
  'k8s/fronts': ['daemon', 'flex', 'csi'],
  'k8s/model': ['volume', 'csi', 'k8s/client', 'k8s/fronts'],
  'k8s/provisioner': ['volume', 'k8s/client', 'k8s/fronts', 'k8s/model'],
  'k8s/node': ['volume', 'daemon', 'k8s/client', 'k8s/fronts', 'k8s/model'],
  'k8s/moves': ['volume', 'flex', 'csi', 'k8s/client', 'k8s/fronts', 'k8s/model'],
  inspect: ['volume', 'daemon'],
  doctor: ['volume', 'lvm', 'mount', 'daemon', 'flex', 'csi', 'inspect', 'k8s/fronts', 'k8s/model'],
  overview: ['volume', 'doctor', 'flex', 'csi', 'k8s/client', 'k8s/fronts', 'k8s/model', 'k8s/moves'],
  kubectl: ['overview', 'k8s/client'],
  page: ['overview'],
}
const forAll = ['', 'text']

/** The room of a file in `src`. */
function roomOf(file: string): string {
  const [first = '', second = ''] = dirname(file).split('/')
  return first === '.' ? '' : first === 'k8s' ? `k8s/${second}` : first
}

async function readSources(): Promise<Map<string, string>> {
  const files = (await readdir('src', { recursive: true })).filter((file) => /(?<!\.test)\.ts$/.test(file))
  return new Map(
    await Promise.all(files.map(async (file) => [file, await readFile(join('src', file), 'utf8')] as const)),
  )
}

test('each room imports what it may, and no more is allowed than what is needed', async () => {
  const wrong: string[] = []
  const needed = new Map<string, Set<string>>()
  for (const [file, text] of await readSources())
    for (const [, path = ''] of text.matchAll(/(?:\bfrom|\bimport\()\s*'(\.[^']+)'/g)) {
      const imported = normalize(join(dirname(file), path))
      const [from, to] = [roomOf(file), roomOf(imported)]
      if (from === '' || from === 'cmd' || from === to || forAll.includes(to) || imported === 'volume/errors.ts')
        continue
      needed.set(from, (needed.get(from) ?? new Set()).add(to))
      if (!mayImport[from]?.includes(to)) wrong.push(`${file} imports ${imported}`)
    }
  assert.equal(wrong, [])
  const idle = Object.entries(mayImport).flatMap(([from, all]) =>
    all.filter((to) => !needed.get(from)?.has(to)).map((to) => `${from} imports nothing of ${to}`),
  )
  assert.equal(idle, [])
})

test('docs/architecture.md says what each room is for', async () => {
  const page = await readFile('docs/architecture.md', 'utf8')
  const rooms = new Set([...(await readSources()).keys()].map(roomOf).filter((room) => room !== ''))
  assert.equal(
    [...rooms].filter((room) => !page.includes(`\`src/${room}/\``)),
    [],
  )
})

test.run()
