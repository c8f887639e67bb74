/** Cuts the power of a busy node with real LVM, `N` times (10); `SEED` plays a run's chances again. Root only. */
import { withCluster } from '../cluster/cluster.ts'
import { makeBridge } from '../cluster/guest-node.ts'
import { enterOwnNetwork } from '../cluster/network.ts'
import { playPowerCuts } from './power-cuts.ts'
import { pickSeed } from './random.ts'

enterOwnNetwork()
const address = await makeBridge()
const cuts = Number(process.env.N ?? 10)
const seed = pickSeed()
const say = (text: string) => process.stdout.write(`${text}\n`)
say(`N=${cuts} SEED=${seed}`)
await withCluster({ address }, (cluster, folder) => playPowerCuts(cluster, folder, { cuts, seed, say }))()
say(`${cuts} power cuts, nothing lost`)
