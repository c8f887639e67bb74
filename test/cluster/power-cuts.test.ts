import { messageOf } from '../../src/volume/errors.ts'
import { suite } from '../suite.ts'
import { playPowerCuts } from '../torture/power-cuts.ts'
import { pickSeed } from '../torture/random.ts'
import { withCluster } from './cluster.ts'
import { makeBridge } from './guest-node.ts'
import { enterOwnNetwork } from './network.ts'

enterOwnNetwork()
const address = await makeBridge()
const test = suite('power cuts')

test(
  'whatever a busy node does when its power is cut, nothing that was synced is lost and nothing half made stays',
  withCluster({ address }, async (cluster, folder) => {
    const seed = pickSeed()
    const said = [`SEED=${seed}`]
    try {
      await playPowerCuts(cluster, folder, { cuts: 2, seed, say: (text) => said.push(text) })
    } catch (error) {
      throw new Error([...said, messageOf(error)].join('\n'), { cause: error })
    }
  }),
)

test.run()
