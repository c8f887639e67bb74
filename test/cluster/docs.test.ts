import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { parse, parseAllDocuments } from 'yaml'
import { run } from '../../src/run.ts'
import { commandLines, readPages, yamlBlocks } from '../docs/pages.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'
import { ensureControlPlane, ensureHelm } from './build.ts'
import { withCluster } from './cluster.ts'

const root = join(import.meta.dirname, '../..')
const test = suite('what pages tell users to run')

const [program, helm, pages] = [await ensureControlPlane(), await ensureHelm(), await readPages()]

test('kubectl and helm know the subcommands and flags of every line for them', async () => {
  const inline = (text: string) => [...text.matchAll(/`((?:kubectl|helm) [^`]+)`/g)].map(([, line = '']) => line)
  const found = pages.flatMap(({ text }) => [...commandLines(text), ...inline(text)])
  const known = { kubectl: [program, 'kubectl'], helm: [helm] }
  let checked = 0
  for (const line of new Set(found)) {
    const [name = '', ...words] = line.split(/\s+/)
    // Our own plugin is looked at in test/docs.
    if (!Object.hasOwn(known, name) || /^elastic[_-]local$/.test(words[0] ?? '')) continue
    const end = words.findIndex((word) => /^(--|#.*|[|&].*|;)$/.test(word))
    const [file = '', ...args] = [...known[name as keyof typeof known], ...(end < 0 ? words : words.slice(0, end))]
    const { stdout } = await run(file, [...args, '--help']).catch((error) => {
      throw new Error(`${line}: ${error}`)
    })
    // The help of the whole program is the answer to what it does not know.
    assert.match(stdout, /(Usage:|Examples:)/, line)
    assert.not.match(stdout, /controls the Kubernetes cluster manager|The Kubernetes package manager/, line)
    checked += 1
  }
  assert.ok(checked > 20)
})

test('the kustomization of docs/install.md gives what it says', () =>
  withScratch(async (folder) => {
    const install = pages.find(({ name }) => name === 'docs/install.md')?.text ?? ''
    const [kustomization = ''] = yamlBlocks(install).filter((block) => parse(block).kind === 'Kustomization')
    await symlink(root, join(folder, 'elastic-local'))
    await mkdir(join(folder, 'mine'))
    await writeFile(join(folder, 'mine/kustomization.yaml'), kustomization)
    const { stdout } = await run(program, ['kubectl', 'kustomize', join(folder, 'mine')])
    const daemon = parseAllDocuments(stdout)
      .map((document) => document.toJS())
      .find(({ kind }) => kind === 'DaemonSet').spec.template.spec
    assert.equal(daemon.nodeSelector, { 'kubernetes.io/os': 'linux', disks: 'local' })
    const [{ image, env }] = daemon.containers
    assert.is(image, 'registry.example.com/elastic-local:0.2.0')
    const values = Object.fromEntries(env.map(({ name, value }: { name: string; value?: string }) => [name, value]))
    assert.is(values.ELASTIC_LOCAL_LVM_VOLUME_GROUP, 'fast')
    assert.is(values.ELASTIC_LOCAL_LVM_USE_THIN_VOLUMES, 'true')
    assert.ok('NODE_NAME' in values)
  }))

test(
  'a real API server takes every object in a page',
  withCluster({}, async (cluster) => {
    const objects = pages
      .flatMap(({ text }) => yamlBlocks(text))
      .flatMap((block) => parseAllDocuments(block).map((document) => document.toJS()))
      .filter((object) => /^(v1|apps\/v1|(?!kustomize\.)[a-z.]+\.k8s\.io\/v1)$/.test(object?.apiVersion))
    assert.ok(objects.length > 0)
    const input = JSON.stringify({ apiVersion: 'v1', kind: 'List', items: objects })
    await cluster.kubectl(['apply', '--dry-run=server', '--validate=strict', '--filename=-'], { input })
  }),
)

test.run()
