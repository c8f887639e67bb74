/**
 * An `lvm` shell for tests: answers each line of standard input with a document on descriptor 3, and plays every way
 * in which the real one was seen to end. What a line says: `echo …`, `bytes …`, `hold <file>` (answers when that file
 * is there), `fail`, `garbage`, `die`, `exit <status>`, `twice …` (answers, and once more),
 * `later <file>` (answers, and once more when that file is there).
 */
import { existsSync, watch, writeSync } from 'node:fs'
import { dirname } from 'node:path'
import { createInterface } from 'node:readline'
import { formatLvmAnswer } from './lvm-fixtures.ts'

let lines = 0
let working = 0
let overlaps = 0

async function answer(words: readonly string[]): Promise<string> {
  const [verb, argument = ''] = words
  if (verb?.startsWith('end-of-answer-')) return formatLvmAnswer({}, ['No such command'], '2', verb)
  if (verb === 'fail') return formatLvmAnswer({}, ['It failed.', 'It really failed.'])
  if (verb === 'garbage') return '  {\n  rubbish\n  }\n'
  if (verb === 'die' || verb === 'exit') {
    writeSync(3, '  {\n      "report": [\n')
    writeSync(2, 'last words\n')
    if (verb === 'die') process.kill(process.pid, 'SIGKILL')
    process.exit(Number(argument))
  }
  if (verb === 'hold') await appearance(argument)
  const { LVM_SYSTEM_DIR = '', LC_ALL = '', LVM_SUPPRESS_FD_WARNINGS = '' } = process.env
  const env = [LVM_SYSTEM_DIR, LC_ALL, LVM_SUPPRESS_FD_WARNINGS].join()
  const row = { words: words.join(' '), pid: String(process.pid), line: String(lines), overlaps: String(overlaps), env }
  return formatLvmAnswer({ lv: [row] })
}

async function appearance(file: string): Promise<void> {
  await new Promise<void>((resolve) => {
    const watcher = watch(dirname(file), check)
    function check() {
      if (!existsSync(file)) return
      watcher.close()
      resolve()
    }
    check()
  })
}

async function write(text: string, bySingleBytes: boolean): Promise<void> {
  if (!bySingleBytes) writeSync(3, text)
  else
    for (const byte of Buffer.from(text)) {
      writeSync(3, Uint8Array.of(byte))
      await new Promise(setImmediate)
    }
}

const input = createInterface({ input: process.stdin })
input.on('line', async (line) => {
  lines += 1
  if (working > 0) overlaps += 1
  working += 1
  const words = line.split(' ')
  // A line that comes before the answer to this one is noticed.
  await new Promise(setImmediate)
  const text = await answer(words)
  working -= 1
  await write(text, words[0] === 'bytes')
  if (words[0] === 'twice') await write(text, false)
  if (words[0] === 'later') appearance(words[1] ?? '').then(() => write(text, false))
})
