/** Builds Kubernetes' own storage suite, with what it needs; kept in the cache folder. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { cacheFolder } from '../../image/cache.ts'
import { withLock } from '../../image/lock.ts'
import { buildFlags, ensureBuilt, hashSources, readSources } from '../cluster/build.ts'
import { go, makeModule } from '../kubernetes/go.ts'
import { defaultVersion, kubernetes } from '../kubernetes/version.ts'
import { makeImages } from './images.ts'

const moduleDir = join(import.meta.dirname, 'module')

/** Paths of what was built. */
export interface Suite {
  /** All its specs, as a test binary; ginkgo goes by its name. */
  specs: string
  /** What runs several of them at once. */
  ginkgo: string
  /** Takes commands for a node by SSH. */
  sshd: string
  /** An archive for `ctr images import`, of what its pods run. */
  images: string
}

/** Builds the suite, of the version of Kubernetes that the tests are written for. */
export async function ensureSuite(): Promise<Suite> {
  if (kubernetes.version !== defaultVersion)
    throw new Error(
      `Cannot run the suite as KUBERNETES must be ${defaultVersion}, or unset: it is ${kubernetes.version}`,
    )
  const sources = await readSources(moduleDir, ['e2e_test.go', 'cmd/sshd/main.go'])
  const recipe = await readSources(import.meta.dirname, ['build.ts', 'images.ts'])
  const name = `conformance-${hashSources(new Map([...sources, ...recipe]))}`
  await mkdir(cacheFolder, { recursive: true })
  const folder = await withLock(join(cacheFolder, 'conformance.lock'), () =>
    ensureBuilt(name, 'suite', (output) => build(output, sources)),
  )
  const file = (entry: string) => join(folder, entry)
  return { specs: file('specs.test'), ginkgo: file('ginkgo'), sshd: file('sshd'), images: file('images.tar') }
}

async function build(output: string, sources: ReadonlyMap<string, string>): Promise<void> {
  process.stderr.write('Building the storage suite of Kubernetes: 3 to 6 minutes the first time ...\n')
  const module = join(output, 'module')
  await mkdir(output, { recursive: true })
  await makeModule(module, 'conformance', sources)
  const file = (entry: string) => join(output, entry)
  await go(module, ['test', '-c', '-vet=off', '-mod=mod', ...buildFlags, '-o', file('specs.test'), '.'])
  const programs = {
    ginkgo: 'github.com/onsi/ginkgo/v2/ginkgo',
    agnhost: 'k8s.io/kubernetes/test/images/agnhost',
    sshd: './cmd/sshd',
  }
  for (const [program, path] of Object.entries(programs))
    await go(module, ['build', '-mod=mod', ...buildFlags, '-o', file(program), path])
  const { stdout } = await go(module, ['list', '-m', '-mod=mod', '-f', '{{.Dir}}', 'k8s.io/kubernetes'])
  await makeImages(file('images.tar'), {
    cache: join(cacheFolder, 'debian-conformance'),
    agnhost: file('agnhost'),
    kubernetes: stdout.trim(),
    specs: file('specs.test'),
  })
}
