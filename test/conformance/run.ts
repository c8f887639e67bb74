/**
 * Runs Kubernetes' own storage suite against elastic-local, and ends with one line that counts its specs:
 *
 *   run.ts [SLICE]...    all of test/conformance/slices.ts by default; reports are in dist/conformance
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, existsSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ensureControlPlane } from '../cluster/build.ts'
import { ensureBusyboxImage, ensureImage } from '../cluster/image.ts'
import { enterOwnNetwork } from '../cluster/network.ts'
import { tailOf } from '../cluster/program.ts'
import { atTermination } from '../cluster/termination.ts'
import { kubernetes } from '../kubernetes/version.ts'
import { ensureSuite, type Suite } from './build.ts'
import { drivers } from './drivers.ts'
import { judge, readReport, type Spec, type Verdict } from './report.ts'
import { type Rig, startRig } from './rig.ts'
import { exceptions, type Slice, slices } from './slices.ts'

const reports = join(import.meta.dirname, '../../dist/conformance')
const say = (text: string) => process.stdout.write(`${text}\n`)

const names = process.argv.slice(2)
const unknown = names.find((name) => !slices.some((slice) => slice.name === name))
if (unknown !== undefined)
  throw new Error(`Cannot run ${unknown} as slices must be of ${slices.map(({ name }) => name).join(', ')}.`)
const wanted = names.length === 0 ? slices : slices.filter(({ name }) => names.includes(name))

// What is downloaded comes before a network from which nothing gets out.
await ensureControlPlane()
const suite = await ensureSuite()
await Promise.all([ensureImage(), ensureBusyboxImage()])
enterOwnNetwork()
const total: Verdict = { passed: 0, failed: 0, excepted: 0, skipped: 0, lines: [] }
for (const nodes of [2, 1]) {
  const group = wanted.filter((slice) => slice.nodes === nodes)
  if (group.length > 0) await withRig(nodes, (rig) => runSlices(rig, group))
}
say(`${total.excepted} known not to pass, ${total.skipped} skipped by the suite as they need what the driver has not`)
say(`${total.passed} passed, ${total.failed} failed`)
process.exitCode = total.failed > 0 ? 1 : 0

function describe({ state, name, message }: Spec): string {
  return `${state} ${name}${state === 'skipped' ? `: ${message}` : ''}\n`
}

async function withRig(nodes: number, work: (rig: Rig) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'elastic-local-conformance-'))
  const forget = atTermination(() => rm(folder, { recursive: true, force: true }))
  try {
    const rig = await startRig({ folder, suite, nodes })
    try {
      await work(rig)
    } finally {
      await rig.close()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
    forget()
  }
}

async function runSlices(rig: Rig, group: readonly Slice[]): Promise<void> {
  for (const slice of group) {
    const startedAt = Date.now()
    const folder = join(reports, slice.name)
    await rm(folder, { recursive: true, force: true })
    await mkdir(folder, { recursive: true })
    await runGinkgo(suite, rig, slice, folder)
    const report = join(folder, 'report.json')
    if (!existsSync(report))
      throw new Error(`Cannot count as ginkgo left no report:\n${tailOf(join(folder, 'output.txt'))}`)
    const specs = await readReport(report)
    const verdict = judge(
      specs,
      exceptions.filter((exception) => exception.slice === slice.name && (exception.applies?.() ?? true)),
    )
    for (const key of ['passed', 'failed', 'excepted', 'skipped'] as const) total[key] += verdict[key]
    const { passed, failed, excepted, skipped, lines } = verdict
    await writeFile(join(folder, 'specs.txt'), specs.map(describe).join(''))
    for (const line of lines) say(line)
    const seconds = Math.round((Date.now() - startedAt) / 1000)
    const counts = `${passed} passed, ${failed} failed, ${excepted} known not to pass, ${skipped} skipped`
    say(`${failed > 0 ? 'FAIL' : 'ok  '} ${slice.name} on ${kubernetes.version}: ${counts} (${seconds} s)`)
  }
}

/** Runs a slice of the suite to its end, whatever comes of it; its output goes to a file beside its reports. */
async function runGinkgo(suite: Suite, rig: Rig, slice: Slice, folder: string): Promise<void> {
  const driver = join(folder, 'driver.yaml')
  await writeFile(driver, JSON.stringify(drivers[slice.driver]))
  const ofGinkgo = {
    procs: slice.atOnce,
    focus: slice.focus,
    skip: slice.skip,
    timeout: '2h',
    'output-dir': folder,
    'json-report': 'report.json',
  }
  const ofSuite = {
    provider: 'local',
    kubeconfig: rig.kubeconfig,
    'kubectl-path': rig.kubectl,
    'report-dir': folder,
    'storage.testdriver': driver,
  }
  const flags = (values: object) => Object.entries(values).map(([name, value]) => `--${name}=${value}`)
  const args = [...flags(ofGinkgo), '--no-color', '--silence-skips', suite.specs, '--', ...flags(ofSuite)]
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', suite.ginkgo, ...args], {
    env: { ...process.env, KUBE_SSH_USER: 'root', KUBE_SSH_KEY_PATH: rig.sshKey },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const log = createWriteStream(join(folder, 'output.txt'))
  for (const stream of [child.stdout, child.stderr]) stream.pipe(log, { end: false })
  await once(child, 'close')
  log.end()
  await once(log, 'finish')
}
