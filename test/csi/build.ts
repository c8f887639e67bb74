/** Builds, from Go modules, what CSI is tested with; kept in the cache folder. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ensureBuilt, hashSources, readSources } from '../cluster/build.ts'
import { go } from '../kubernetes/go.ts'

const moduleDir = join(import.meta.dirname, 'module')

/** Paths of what was built. */
export interface CsiTools {
  /** The specs of kubernetes-csi/csi-test. */
  sanity: string
  /** A FileDescriptorSet in base64: csi.proto, and that of the kubelet's registration. */
  descriptors: string
}

export async function ensureCsiTools(): Promise<CsiTools> {
  const sources = await readSources(moduleDir, ['go.mod', 'go.sum', 'main.go'])
  const folder = await ensureBuilt(`csi-${hashSources(sources)}`, 'tools', async (output) => {
    process.stderr.write('Building csi-sanity for the tests: 1 to 3 minutes the first time ...\n')
    await mkdir(output, { recursive: true })
    const flags = ['-trimpath', '-buildvcs=false', '-ldflags', '-s -w']
    await go(moduleDir, [
      'build',
      ...flags,
      '-o',
      join(output, 'csi-sanity'),
      'github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity',
    ])
    const { stdout } = await go(moduleDir, ['run', ...flags, '.'])
    await writeFile(join(output, 'descriptors'), stdout)
  })
  return { sanity: join(folder, 'csi-sanity'), descriptors: join(folder, 'descriptors') }
}
