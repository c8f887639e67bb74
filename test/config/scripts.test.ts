import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { CommandError, type Output, run } from '../../src/run.ts'
import { withScratch } from '../scratch.ts'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'

const root = join(import.meta.dirname, '../..')
const { version } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
const test = suite('scripts of config/')

interface World {
  /** Runs make(1) with no programs but the shell's usual ones and those of the script. */
  make(...words: string[]): Promise<Output>
  /** Runs one of the scripts in the same way, with that environment. */
  script(name: string, env?: Readonly<Record<string, string>>): Promise<Output>
  /** The command lines of the scripted programs, in order. */
  calls(): Promise<string[]>
  /** What `cluster()` was told to make. */
  applied(): Promise<string>
}

/** Gives `work` make(1), and programs that do as the shell lines say, by their names. */
const withPrograms = (programs: Readonly<Record<string, string>>, work: (world: World) => Promise<void>) => () =>
  withScratch(async (folder) => {
    const [bin, log] = [join(folder, 'bin'), join(folder, 'log')]
    await mkdir(bin)
    await writeFile(log, '')
    const usual = ['awk', 'cat', 'date', 'dirname', 'grep', 'head', 'make', 'mktemp', 'rm', 'sed', 'sh', 'uname', 'wc']
    for (const name of usual)
      await writeFile(join(bin, name), `#!/bin/sh\nexec /usr/bin/${name} "$@"\n`, { mode: 0o755 })
    for (const [name, script] of Object.entries(programs))
      await writeFile(join(bin, name), `#!/bin/sh\necho "${name} $*" >> ${log}\n${script}\n`, { mode: 0o755 })
    await work({
      make: (...words) => run('/usr/bin/env', [`PATH=${bin}`, 'make', '--silent', '-C', root, ...words]),
      script: (name, env = {}) => {
        const words = Object.entries({ PATH: bin, ...env }).map(([key, value]) => `${key}=${value}`)
        return run('/usr/bin/env', ['--chdir', root, ...words, `config/${name}`])
      },
      applied: () => readFile(join(folder, 'applied'), 'utf8'),
      calls: async () => (await readFile(log, 'utf8')).trim().split('\n'),
    })
  })

const failure = (work: () => Promise<unknown>) => thrownBy(CommandError, work)

for (const target of ['deploy', 'undeploy', 'create-vg', 'minikube-create-vg'])
  test(
    `make ${target} says what is missing where there is no kubectl`,
    withPrograms({}, async ({ make }) => {
      assert.match((await failure(() => make(target))).stderr, /kubectl must be in PATH: there is none/)
    }),
  )

test(
  'make deploy does nothing where no cluster answers, and says so',
  withPrograms({ kubectl: 'exit 1' }, async ({ make, calls }) => {
    assert.match((await failure(() => make('deploy'))).stderr, /Cannot reach the cluster/)
    assert.equal(await calls(), ['kubectl version --output json'])
  }),
)

test(
  'make deploy without IMAGE says what is missing, and applies nothing, where no node has the image',
  withPrograms(
    { kubectl: 'case "$*" in *"get nodes"*) echo docker.io/library/other:1 ;; esac' },
    async ({ make, calls }) => {
      const { stderr } = await failure(() => make('deploy'))
      assert.match(stderr, /no node has the image elastic-local:\S+, and IMAGE names no other/)
      assert.not.ok((await calls()).some((call) => call.includes('apply')))
    },
  ),
)

test(
  'make deploy without IMAGE goes on where a node has the image',
  withPrograms(
    {
      kubectl: `case "$*" in *"get nodes"*) echo docker.io/library/other:1 docker.io/library/elastic-local:${version} ;; esac`,
    },
    async ({ make, calls }) => {
      await make('deploy')
      assert.ok((await calls()).some((call) => call.includes('apply')))
    },
  ),
)

for (const [CLUSTER, call] of [
  ['kind', 'kind load image-archive dist/image/elastic-local.oci.tar --name kind'],
  ['minikube', 'minikube image load dist/image/elastic-local.oci.tar --profile minikube'],
  ['k3s', 'k3s ctr images import dist/image/elastic-local.oci.tar'],
] as const)
  test(
    `the image is loaded into ${CLUSTER} by what that has for it`,
    withPrograms({ [CLUSTER]: '' }, async ({ script, calls }) => {
      const { stdout } = await script('load.sh', { CLUSTER })
      assert.match(stdout, `make deploy IMAGE=elastic-local:${version}\n`)
      assert.equal(await calls(), [call])
    }),
  )

test(
  'what the image cannot be loaded into is said',
  withPrograms({}, async ({ script }) => {
    assert.match((await failure(() => script('load.sh'))).stderr, /CLUSTER must be kind, minikube or k3s: it is empty/)
    assert.match(
      (await failure(() => script('load.sh', { CLUSTER: 'kind' }))).stderr,
      /kind must be in PATH: it is not/,
    )
  }),
)

test(
  'make deploy puts IMAGE in the place of the image, and of nothing else',
  withPrograms(
    { kubectl: 'while [ $# -gt 0 ]; do [ "$1" != --filename ] || cat "$2"; shift; done' },
    async ({ make }) => {
      const deploy = await readFile(join(root, 'deploy.yaml'), 'utf8')
      const { stdout } = await make('deploy', 'IMAGE=registry.example.com:5000/a/elastic-local@sha256:0a')
      const changed = deploy.replace(
        /image: elastic-local:.*/g,
        'image: registry.example.com:5000/a/elastic-local@sha256:0a',
      )
      assert.is.not(changed, deploy)
      assert.ok(stdout.includes(changed))
      assert.match((await failure(() => make('deploy', 'IMAGE=a|b'))).stderr, /IMAGE must be the name of an image/)
    },
  ),
)

test(
  'make deploy says what pods say where they do not become ready',
  withPrograms(
    { kubectl: 'case "$*" in *rollout*) exit 1 ;; *logs*) echo "volume group is missing" ;; esac' },
    async ({ make }) => {
      const { stderr } = await failure(() => make('deploy', 'IMAGE=registry.example.com/elastic-local:1'))
      assert.match(
        stderr,
        /volume group is missing\s+Cannot say that it is ready: daemonset\/elastic-local-daemon is not/,
      )
    },
  ),
)

test(
  'make create-vg asks for nodes and disks, and takes no characters that a shell would read',
  withPrograms({ kubectl: '' }, async ({ make }) => {
    const asks = async (words: RegExp, ...args: string[]) =>
      assert.match((await failure(() => make('create-vg', ...args))).stderr, words)
    await asks(/DISKS must name disks/, 'NODES=a')
    await asks(/there must be a node/, 'DISKS=/dev/sdb')
    await asks(/DISKS must be paths/, 'NODES=a', 'DISKS=/dev/sdb;reboot')
    await asks(/no name has such characters: x'y/, 'NODES=a', 'DISKS=/dev/sdb', "GROUP=x'y")
    assert.match((await failure(() => make('gke-create-vg'))).stderr, /POOL must name a node pool/)
  }),
)

/** Answers as a cluster whose pods end with that status. */
const cluster = (exitCode: number) => `case "$*" in
  *"get nodes"*) echo node-1 node-2 ;;
  *"apply --filename -") cat >> "\${0%/bin/*}/applied" ;;
  *wait*) ;;
  *exitCode*) echo ${exitCode} ;;
  *logs*) echo "what it said" ;;
  *containerStatuses*ready*) echo false ;;
esac`

test(
  'make gke-create-vg runs a pod for the local SSDs on each node of the pool, and has waiting daemons start anew',
  withPrograms({ kubectl: cluster(0) }, async ({ make, calls, applied }) => {
    assert.match((await make('gke-create-vg', 'POOL=fast')).stdout, /node-1: what it said\nnode-2: what it said/)
    const size = '--size=375Gi'
    const list = `create-vg, --lvm-volume-group=elastic-local-vg, ${size}, '/dev/disk/by-id/google-local-ssd-block*'`
    const all = await calls()
    assert.is((await applied()).split(list).length, 3)
    assert.ok(all.some((call) => call.includes('get nodes --selector cloud.google.com/gke-nodepool=fast')))
    for (const node of ['node-1', 'node-2']) {
      const rest = `--selector app.kubernetes.io/component=daemon --field-selector spec.nodeName=${node}`
      assert.ok(all.includes(`kubectl --namespace elastic-local delete pods ${rest} --wait=false`))
      assert.ok(all.includes(`kubectl --namespace elastic-local delete pod create-vg-${node}`))
    }
  }),
)

test(
  'make minikube-create-vg fails when its pod does',
  withPrograms({ kubectl: cluster(1) }, async ({ make }) => {
    const { stdout, stderr } = await failure(() => make('minikube-create-vg'))
    assert.match(stdout, 'minikube: what it said')
    assert.match(stderr, 'Not made: minikube')
  }),
)

test(
  'make minikube-attach-disk makes a new image and attaches it',
  withPrograms({ virsh: 'case "$*" in *vol-path*) echo /images/new.raw ;; esac' }, async ({ make, calls }) => {
    assert.match((await make('minikube-attach-disk', 'SIZE=20G')).stdout, /minikube has a new disk \/dev\/vdb/)
    const volume = 'elastic-local-minikube-vdb.raw'
    assert.equal(
      (await calls()).map((call) => call.replace('virsh --quiet --connect qemu:///system ', '')),
      [
        'dominfo minikube',
        `vol-create-as default ${volume} 20G --format raw --allocation 0`,
        `vol-path ${volume} --pool default`,
        'attach-disk minikube /images/new.raw vdb --subdriver raw --targetbus virtio --persistent',
      ],
    )
  }),
)

test(
  'make minikube-attach-disk changes nothing where the image or the machine is not as it must be',
  withPrograms({ virsh: 'case "$*" in *vol-create-as*) exit 1 ;; esac' }, async ({ make, calls }) => {
    await failure(() => make('minikube-attach-disk'))
    assert.is((await calls()).length, 2)
  }),
)

test(
  'make minikube-attach-disk takes its image back where the machine has such a disk already',
  withPrograms({ virsh: 'case "$*" in *attach-disk*) exit 1 ;; esac' }, async ({ make, calls }) => {
    await failure(() => make('minikube-attach-disk'))
    assert.match((await calls()).at(-1) ?? '', 'vol-delete elastic-local-minikube-vdb.raw')
  }),
)

test(
  'make minikube-attach-disk says whom it is for where there is no virsh',
  withPrograms({}, async ({ make }) => {
    assert.match((await failure(() => make('minikube-attach-disk'))).stderr, /This is for driver kvm2/)
  }),
)

test.run()
