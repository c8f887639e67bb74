/** Where options of a call-out must not turn up: logs, answers, the arguments and environment of the programs we run. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { request } from 'node:http'
import { join } from 'node:path'
import { text as readText } from 'node:stream/consumers'
import * as assert from 'uvu/assert'
import { withNode } from '../node.ts'
import { suite } from '../suite.ts'

const test = suite('secrets')
const main = join(import.meta.dirname, '../../src/main.ts')
const mebibyte = 2 ** 20
const marker = 'bWFya2Vy'
/** As the kubelet passes them for a pod's volume with a Secret. */
const marked = {
  key: `key-${marker}`,
  'kubernetes.io/secret/password': `secret-${marker}`,
  'kubernetes.io/pod.name': `pod-${marker}`,
  'kubernetes.io/pod.namespace': `namespace-${marker}`,
  'kubernetes.io/serviceAccount.name': `account-${marker}`,
  [`other-${marker}`]: 'x',
}
const options = { ...marked, sizeBytes: String(32 * mebibyte), 'kubernetes.io/fsType': 'ext4' }
/** All that the daemon runs for a volume. */
const tools = ['blkid', 'e2fsck', 'losetup', 'mkfs.ext4', 'mount', 'resize2fs', 'umount', 'wipefs']

test(
  'what a call-out is given is in no log, on level debug neither, no answer and no argument or environment of a program that is run for it',
  withNode(async (node) => {
    const seen = join(node.folder, 'seen')
    for (const tool of tools)
      await node.wrap(
        tool,
        `{ echo "ran ${tool}"; tr '\\0' ' ' < /proc/$$/cmdline; env; } >> '${seen}'\nexec "$real" "$@"`,
      )
    const daemon = await node.start({ flags: { 'log-level': 'debug' } })
    const callOut = async (...args: string[]) => {
      const env = { ...process.env, ELASTIC_LOCAL_SOCKET: node.socket }
      const child = spawn(process.execPath, [main, ...args], { env, stdio: ['ignore', 'pipe', 'pipe'] })
      let said = ''
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text) => {
          said += text
        })
      await once(child, 'close')
      return said
    }
    const target = node.target('a')
    const good = JSON.stringify(options)
    const answers = [
      await callOut('mount', target, good),
      await callOut('expandfs', good, '', target, String(64 * mebibyte), options.sizeBytes),
      await callOut('unmount', target),
    ]
    for (const answer of answers) assert.match(answer, /^\{"status":"(Success|Failure)"/)
    // What is wrong is said without the values beside it, and without its own where that may be a secret.
    const wrong: [object | string, RegExp][] = [
      [{ ...options, sizeBytes: 'none' }, /sizeBytes/],
      [{ ...options, mountOptions: 'suid' }, /"suid\\"/],
      [{ ...options, key: { [marker]: marker } }, /option key/],
      [{ ...options, 'kubernetes.io/secret/password': [marker] }, /secret\/password/],
      [[marker], /options/],
      [`{"key":"${marker}`, /options/],
    ]
    for (const [given, message] of wrong) {
      const answer = await callOut('mount', target, typeof given === 'string' ? given : JSON.stringify(given))
      assert.match(answer, message)
      answers.push(answer)
    }
    for (const body of [marker, `["${marker}"]`, `{"options":"${marker}"}`, `{"options":{"key":["${marker}"]}}`]) {
      const targetDir = body.startsWith('{') ? `{"targetDir":"${target}",${body.slice(1)}` : body
      answers.push(JSON.stringify(await post(node.socket, targetDir)))
    }
    const ran = await readFile(seen, 'utf8')
    for (const tool of ['losetup', 'mkfs.ext4', 'mount', 'umount']) assert.match(ran, `ran ${tool}\n`)
    const own = join(node.volumesDir, '.elastic-local')
    const files = await readdir(own, { recursive: true, withFileTypes: true })
    const records = files.filter((file) => file.isFile() && file.name.endsWith('.json'))
    const kept = await Promise.all(records.map(({ parentPath, name }) => readFile(join(parentPath, name), 'utf8')))
    const cmdline = await readFile(`/proc/${daemon.child.pid}/cmdline`, 'utf8')
    for (const text of [daemon.output(), ran, cmdline, ...answers, ...kept]) assert.not.match(text, marker)
  }),
)

/** Posts a text to `/mount`, and gives the answer. */
async function post(socketPath: string, text: string): Promise<string> {
  const asked = request({ socketPath, method: 'POST', path: '/mount', agent: false })
  asked.end(text)
  const [answer] = await once(asked, 'response')
  return await readText(answer)
}

test.run()
