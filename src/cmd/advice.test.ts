/** What our messages tell people to type: commands of ours that are there, and programs that they have. */
import { readdir, readFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import * as assert from 'uvu/assert'
import { contents } from '../../image/contents.ts'
import { suite } from '../../test/suite.ts'
import { commands } from './commands.ts'
import { kubectlCommands } from './kubectl.ts'

const test = suite('advice')
const root = join(import.meta.dirname, '..')

/** In the image, or by lvm(8), which is in it. */
const inImage = new Set(
  Object.values(contents)
    .flat()
    .map((path) => basename(path)),
)
const ofLvm = /^(lv|vg|pv)(change|create|extend|remove|rename|import|reduce|s|cfgrestore)$/
/** Which a machine has, and the image has not: what is about the machine itself is done there. */
const ofMachine = [
  'chattr',
  'chmod',
  'chown',
  'dmesg',
  'dmsetup',
  'lsattr',
  'modprobe',
  'swapon',
  'systemd-machine-id-setup',
]

interface Advised {
  file: string
  program: string
  /** What follows it. */
  rest: string
  /** Whether the words before it say that it is to be run. */
  isTold: boolean
}

/** Each text in quotes that may be a command. */
async function findAdvised(): Promise<Advised[]> {
  const files = (await readdir(root, { recursive: true })).filter(
    (file) => file.endsWith('.ts') && !file.endsWith('.test.ts') && !/^(page|csi\/proto)\//.test(file),
  )
  const found = await Promise.all(
    files.map(async (file) => {
      const text = await readFile(join(root, file), 'utf8')
      return [...text.matchAll(/(?:(\w+:?) )?"([a-z][a-z0-9-]*)((?: [^"\n]*)?)"/g)].map(
        ([, before = '', program = '', rest = '']) => ({
          file,
          program,
          rest: rest.trim(),
          isTold: /^(with|run|at|see|say|try|use|blank:|anyway:|once:)$/i.test(before),
        }),
      )
    }),
  )
  return found.flat()
}

test('every command of ours that a message names is one', async () => {
  const names = commands.flatMap(({ name, aliases = [] }) => [name, ...aliases])
  const advised = (await findAdvised()).filter(({ program, rest }) => program === 'elastic-local' && rest !== '')
  assert.ok(advised.length > 20)
  for (const { file, rest } of advised) {
    const words = rest.split(/ (?=[-<$])/)[0] ?? ''
    assert.ok(
      words.startsWith('${') || names.some((name) => words === name || words.startsWith(`${name} `)),
      `${file}: elastic-local ${rest}`,
    )
  }
  const ofPlugin = kubectlCommands.flatMap(({ name, aliases = [] }) => [name, ...aliases])
  for (const { file, rest } of (await findAdvised()).filter(({ program }) => program === 'kubectl')) {
    const words = /^elastic[_-]local (\w.*)/.exec(rest)?.[1]
    if (words)
      assert.ok(
        ofPlugin.some((name) => words === name || words.startsWith(`${name} `)),
        `${file}: kubectl ${rest}`,
      )
  }
})

test('every program that a message tells people to run is in the image, or one that machines have', async () => {
  const known = new Set([...inImage, ...ofMachine, 'elastic-local', 'kubectl', 'make', 'journalctl'])
  const told = (await findAdvised()).filter(({ isTold }) => isTold)
  assert.ok(told.length > 30)
  for (const { file, program, rest } of told)
    assert.ok(known.has(program) || ofLvm.test(program), `${file}: "${program} ${rest}"`)
})

test('no message tells anybody to make a volume group by hand, which takes disks that hold something', async () => {
  const raw = (await findAdvised()).filter(({ program }) => program === 'vgcreate')
  assert.equal(raw, [])
})

test.run()
