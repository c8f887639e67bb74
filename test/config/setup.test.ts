import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { type Output, run } from '../../src/run.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'

const test = suite('test/setup.sh')
const script = join(import.meta.dirname, '../setup.sh')

/** Runs the script for these needs where there are no programs but a shell's usual ones, and those that do as the lines say. */
const withPrograms =
  (programs: Readonly<Record<string, string>>, needs: readonly string[], check: (output: Output) => void) => () =>
    withScratch(async (folder) => {
      const bin = join(folder, 'bin')
      await mkdir(bin)
      for (const name of ['dirname', 'env', 'head', 'id', 'sed', 'sh', 'sort', 'tail'])
        await writeFile(join(bin, name), `#!/bin/sh\nexec /usr/bin/${name} "$@"\n`, { mode: 0o755 })
      for (const [name, lines] of Object.entries(programs))
        await writeFile(join(bin, name), `#!/bin/sh\n${lines}\n`, { mode: 0o755 })
      check(await run('/usr/bin/env', [`PATH=${bin}`, script, ...needs], { accept: [1] }))
    })

const silent = ({ exitCode, stdout, stderr }: Output) =>
  assert.equal({ exitCode, stdout, stderr }, { exitCode: 0, stdout: '', stderr: '' })
const oneLine =
  (words: RegExp) =>
  ({ exitCode, stdout, stderr }: Output) => {
    assert.equal({ exitCode, stdout }, { exitCode: 1, stdout: '' })
    assert.match(stderr, words)
    assert.match(stderr, /^[^\n]+\n$/)
  }
const goOf = (version: string) => ({ go: `echo go version go${version} linux/amd64` })

test(
  'all that a person has to bring and is missing is said in one line',
  withPrograms(
    { id: 'echo 1000', ...goOf('1.19.8') },
    ['test'],
    oneLine(
      /^Cannot start as this is missing: the rights of root \(sudo\), npm \(.*\), git \(.*\), Go 1\.\d+\.\d+ or newer \(.* it is 1\.19\.8\)\.\n$/,
    ),
  ),
)

test(
  'playing and the quick gate need no Go',
  withPrograms({ id: 'echo 1000', npm: '' }, ['run'], oneLine(/missing: the rights of root \(sudo\)\.\n$/)),
)

test('a newer Go will do', withPrograms(goOf('1.99.1'), ['go'], silent))

test(
  'a Go that fetches the one that is needed will do',
  withPrograms(
    { go: 'echo "go: downloading go1.99.0 (linux/amd64)" >&2\necho go version go1.99.0 linux/amd64' },
    ['go'],
    silent,
  ),
)

test('an older one that must not fetch does not', withPrograms(goOf('1.25.9'), ['go'], oneLine(/it is 1\.25\.9/)))

test(
  'one that cannot fetch says why',
  withPrograms(
    { go: 'echo "go: downloading go1.99.0" >&2\necho "go: download go1.99.0: no route to host" >&2\nexit 1' },
    ['go'],
    oneLine(/go: download go1\.99\.0: no route to host\)\.\n$/),
  ),
)

test(
  'of a need that it does not know it says which there are',
  withPrograms({}, ['runs'], oneLine(/Cannot set up runs as .* run, kernel, /)),
)

test.run()
