import { access, readdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as assert from 'uvu/assert'
import { parseAllDocuments } from 'yaml'
import { commonFlags } from '../../src/cmd/flags.ts'
import { elasticLocal, kubectlPlugin } from '../../src/cmd/programs.ts'
import { suite } from '../suite.ts'
import { commandLines, readPages, yamlBlocks } from './pages.ts'

const root = join(import.meta.dirname, '../..')
const test = suite('docs')

async function filesOf(folder: string, suffix: string): Promise<string[]> {
  const files = await readdir(join(root, folder), { recursive: true })
  return files.filter((file) => file.endsWith(suffix)).map((file) => join(root, folder, file))
}

const pages = await readPages()

/** The anchor that a heading has on GitHub. */
const anchorOf = (heading: string) =>
  heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(' ', '-')

test('every relative link leads to a file, and to a heading in it', async () => {
  for (const { file, name, text } of pages)
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const place = path === '' ? file : join(dirname(file), path)
      assert.ok(
        await access(place).then(
          () => true,
          () => false,
        ),
        `${name}: ${target}`,
      )
      if (anchor === undefined) continue
      const headings = [...(await readFile(place, 'utf8')).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) => heading)
      assert.ok(headings.map(anchorOf).includes(anchor), `${name}: ${target}`)
    }
})

test('every page is in the index', () => {
  const index = pages.find(({ name }) => name === 'docs/README.md')?.text ?? ''
  for (const { name } of pages)
    if (/^docs\/[^/]+\.md$/.test(name) && name !== 'docs/README.md')
      assert.ok(index.includes(`(${name.replace('docs/', '')})`), name)
})

test('every block of YAML can be read', () => {
  for (const { name, text } of pages)
    for (const block of yamlBlocks(text))
      for (const { errors } of parseAllDocuments(block)) assert.equal(errors, [], name)
})

test('every command of ours is one, with flags that it has', () => {
  const known = [elasticLocal, kubectlPlugin].flatMap((program) =>
    program.commands.flatMap((command) =>
      [command.name, ...(command.aliases ?? [])].map((name) => ({ name: `${program.name} ${name}`, command })),
    ),
  )
  const calls = /(?:^| -- )(?:dist\/)?((?:kubectl elastic_local|elastic-local) [a-z](?:[^|&#"]|"[^"]*")*)/g
  for (const { name, text } of pages)
    for (const line of commandLines(text))
      for (const [, words = ''] of line.matchAll(calls)) {
        if (/^(\S+|kubectl \S+) help/.test(words)) continue
        const found = known
          .filter((each) => `${words.trim()} `.startsWith(`${each.name} `))
          .sort((a, b) => b.name.length - a.name.length)[0]
        assert.ok(found, `${name}: ${line}`)
        const flags = [...Object.values(found.command.flags), ...Object.values(commonFlags)].map((flag) => flag.name)
        for (const [, flag = ''] of words.matchAll(/--([a-z-]+)/g))
          assert.ok(flags.includes(flag), `${name}: --${flag} in ${line}`)
      }
})

test('every make target that is named is there', async () => {
  const makefile = await readFile(join(root, 'Makefile'), 'utf8')
  const targets = [...makefile.matchAll(/^([a-z-]+):.*## /gm)].map(([, target]) => target)
  for (const { name, text } of pages)
    for (const [, target = ''] of text.matchAll(/(?:`|"|^ {4,})make ([a-z][a-z-]*)/gm))
      assert.ok(targets.includes(target), `${name}: make ${target}`)
})

test('every file of ours that a page names is there', async () => {
  const name = /`((?:src|test|config|charts|bench)\/[A-Za-z0-9_./-]+\.[a-z]+)`|-f ((?:config\/)?[a-z-]+\.yaml)/g
  for (const page of pages)
    for (const [, quoted, applied] of page.text.matchAll(name))
      await access(join(root, quoted ?? applied ?? '')).catch(() =>
        assert.unreachable(`${page.name}: ${quoted ?? applied}`),
      )
})

test('every message that the troubleshooting quotes is in the sources, word by word', async () => {
  const sources = (await filesOf('src', '.ts')).filter((file) => !file.endsWith('.test.ts'))
  const code = (await Promise.all(sources.map((file) => readFile(file, 'utf8')))).join('\n').replaceAll("\\'", "'")
  const { text } = pages.find(({ name }) => name === 'docs/troubleshooting.md') ?? { text: '' }
  const cells = [...text.matchAll(/^\| ([^|]*) \|/gm)].map(([, cell = '']) => cell)
  const quoted = cells.filter((cell) => !cell.includes('(Kubernetes')).flatMap((cell) => /"(.*)"/.exec(cell)?.[1] ?? [])
  assert.ok(quoted.length > 25)
  for (const message of quoted)
    for (const part of message.split(/…| as |" with "/).map((words) => words.trim().replace(/^[.:,;] |[.:,;]$/g, '')))
      assert.ok(code.includes(part), `"${part}" of "${message}"`)
})

test.run()
