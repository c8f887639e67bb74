/** Go, and modules that use Kubernetes. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { CommandError, run } from '../../src/run.ts'
import { kubernetes } from './version.ts'

const { version, minor, patch } = kubernetes

/** Runs Go in a folder. Throws `CommandError`. */
export async function go(folder: string, args: readonly string[], more: Readonly<Record<string, string>> = {}) {
  const settings = { CGO_ENABLED: '0', GOWORK: 'off', PATH: `${process.env.PATH}:/usr/local/go/bin`, ...more }
  const words = Object.entries(settings).map(([name, value]) => `${name}=${value}`)
  try {
    return await run('env', ['-C', folder, ...words, 'go', ...args])
  } catch (error) {
    if (!(error instanceof CommandError) || error.exitCode === undefined) throw error
    const { file, exitCode, stdout, stderr } = error
    throw new CommandError({ file, args: error.args }, { exitCode, stdout, stderr: withoutProgress(stderr) })
  }
}

/** What is wrong comes after hundreds of lines that say what it downloads. */
const withoutProgress = (stderr: string) =>
  stderr
    .split('\n')
    .filter((line) => !line.startsWith('go: downloading '))
    .join('\n')

/**
 * Writes a module into a folder: its sources, and a go.mod with which it uses the tests' version of Kubernetes. Builds
 * with `-mod=mod` add what is needed besides, in the versions that Kubernetes has of it.
 */
export async function makeModule(folder: string, name: string, sources: ReadonlyMap<string, string>): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const [file, text] of sources) {
    await mkdir(join(folder, file, '..'), { recursive: true })
    await writeFile(join(folder, file), text)
  }
  const downloaded = await go(folder, ['mod', 'download', '-json', `k8s.io/kubernetes@${version}`])
  const { GoMod }: { GoMod: string } = JSON.parse(downloaded.stdout)
  const { stdout } = await go(folder, ['mod', 'edit', '-json', GoMod])
  const { Go, Replace }: { Go: string; Replace: { Old: { Path: string }; New: { Path: string } }[] } =
    JSON.parse(stdout)
  // Kubernetes keeps them as folders, and publishes each as a module of its own.
  const staged = Replace.filter(({ New }) => New.Path.startsWith('./staging/')).map(({ Old }) => Old.Path)
  const lines = [
    `module elastic-local.example/${name}`,
    `go ${Go}`,
    `require k8s.io/kubernetes ${version}`,
    ...staged.map((path) => `replace ${path} => ${path} v0.${minor}.${patch}`),
  ]
  await writeFile(join(folder, 'go.mod'), `${lines.join('\n')}\n`)
}
