/** Pictures of a real cluster in which some things are wrong: SVG for the docs, PNG of the page in dist/screenshots. */
import { chmod, mkdir, symlink, writeFile } from 'node:fs/promises'
import { hostname, release } from 'node:os'
import { join } from 'node:path'
import { commandEnv } from '../../src/run.ts'
import { openBrowser } from '../browser.ts'
import { pictureTerminal } from '../terminal-picture.ts'
import { type ElasticNode, executable } from './elastic.ts'
import { enterOwnNetwork } from './network.ts'
import { runWithInput } from './program.ts'
import { openTroubled } from './troubled.ts'

enterOwnNetwork()
const root = join(import.meta.dirname, '../..')
const [images, screenshots] = [join(root, 'docs/images'), join(root, 'dist/screenshots')]
await mkdir(images, { recursive: true })
await mkdir(screenshots, { recursive: true })

/** For the browser: the page as an SVG of itself, without its script. */
const asPicture = `{
  const { scrollWidth: width, scrollHeight: height } = document.documentElement
  const copy = document.documentElement.cloneNode(true)
  for (const one of copy.querySelectorAll('script, link, meta, title')) one.remove()
  const html = new XMLSerializer().serializeToString(copy)
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ' + width + ' ' + height + '" width="' + width + '" height="' + height + '"><foreignObject width="100%" height="100%">' + html + '</foreignObject></svg>\\n'
}`

const world = await openTroubled()
try {
  await world.start()
  await world.giveRights()
  await world.breakThings()
  const { cluster, nodes, ports } = world
  const bin = join(cluster.folder, 'bin')
  await mkdir(bin)
  await symlink(executable, join(bin, 'elastic-local'))
  await symlink(executable, join(bin, 'kubectl-elastic_local'))
  await writeFile(join(bin, 'kubectl'), `#!/bin/sh\nexec ${cluster.program} kubectl "$@"\n`)
  await chmod(join(bin, 'kubectl'), 0o755)

  for (const [name, command] of [
    ['volumes', 'elastic-local volumes'],
    ['pools', 'elastic-local pools'],
    ['doctor', 'elastic-local doctor'],
    ['explain', 'kubectl elastic_local explain data-reports'],
  ] as const)
    await writeFile(join(images, `${name}.svg`), pictureTerminal(command, await runOnTerminal(command, nodes[0])))

  const browser = await openBrowser()
  try {
    for (const [name, colorScheme, width] of [
      ['page', 'light', 1240],
      ['page-dark', 'dark', 1240],
      ['page-phone', 'light', 390],
      ['volume', 'light', 1240],
      ['volume-phone', 'dark', 390],
    ] as const) {
      const page = await browser.newPage({ colorScheme, viewport: { width, height: 800 } })
      await page.goto(`http://localhost:${ports[0]}`)
      if (name.startsWith('volume')) await page.getByRole('link', { name: 'default/data-reports' }).first().click()
      await page.waitForLoadState()
      await page.evaluate(asUsual())
      await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true })
      // It has both colour schemes in it, and takes that of whoever looks at it.
      if (!name.includes('-')) await writeFile(join(images, `${name}.svg`), await page.evaluate<string>(asPicture))
    }
  } finally {
    await browser.close()
  }

  /** What a command prints on a terminal of a node, with the paths and names that there are on a usual one. */
  async function runOnTerminal(command: string, node: ElasticNode | undefined): Promise<string> {
    const env = {
      TERM: 'xterm-256color',
      PATH: `${bin}:${commandEnv().PATH}`,
      KUBECONFIG: cluster.adminKubeconfig,
      ELASTIC_LOCAL_SOCKET: node?.socket ?? '',
      ELASTIC_LOCAL_DRIVER_KIND: 'LOOP',
      ELASTIC_LOCAL_VOLUMES_DIR: node?.volumesDir ?? '',
      ELASTIC_LOCAL_KUBELET_DIR: node?.kubelet.rootDir ?? '',
      ELASTIC_LOCAL_PLUGIN_DIR: node?.kubelet.pluginDir ?? '',
      ELASTIC_LOCAL_NODE_NAME: node?.name ?? '',
    }
    const args = ['--quiet', '--return', '--command', command, '/dev/null']
    const { stdout } = await runWithInput('script', args, { env, accept: [1] })
    return usual().reduce((text, [from, to]) => replaceInColumns(text, from, to), stdout)
  }

  /** What is only so in a test, and what it is elsewhere. */
  function usual(): [string, string][] {
    return [
      ...nodes.flatMap(({ volumesDir, socket, kubelet }): [string, string][] => [
        [volumesDir, '/mnt/elastic-local-volumes'],
        [socket, '/var/run/elastic-local/socket'],
        [kubelet.pluginDir, '/usr/libexec/kubernetes/kubelet-plugins/volume/exec'],
        [kubelet.rootDir, '/var/lib/kubelet'],
      ]),
      [hostname(), 'elastic-local-provisioner-6c5f7d9b8-x4k2p'],
      [release(), '6.12.48-amd64'],
    ]
  }

  /** For the browser: says what is usual in the page. */
  function asUsual(): string {
    return `{
      const usual = ${JSON.stringify(usual())}
      const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
      for (let node = walk.nextNode(); node; node = walk.nextNode())
        for (const [from, to] of usual) node.data = node.data.replaceAll(from, to)
    }`
  }
} finally {
  await world.close()
}

/** Other text in place of `from`, in the same width where something follows in the line. */
function replaceInColumns(text: string, from: string, to: string): string {
  return text
    .split(from)
    .reduce((before, after) => before + (/^ {2}/.test(after) ? to.padEnd(from.length) : to) + after)
}
