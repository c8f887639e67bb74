import { Engine } from '../src/volume/engine.ts'
import { minimumBytes } from '../src/volume/host.ts'
import type { FsType } from '../src/volume/pool.ts'
import type { World } from './contract.ts'

/** The steps of a volume's life, in their order. */
export const lifeSteps = ['make', 'mount', 'unmount', 'mount again', 'unmount again', 'remove'] as const
export type LifeStep = (typeof lifeSteps)[number]

/**
 * What each step starts of a volume that is not the first of its daemon: the names that the runner, or LVM's shell, put into
 * `started`, in their order.
 */
export async function countStarts(
  world: World,
  started: string[],
  fsType: FsType,
): Promise<Record<LifeStep, string[]>> {
  const engine = new Engine(world.parts)
  await engine.start()
  await engine.recover()
  const spec = { sizeBytes: minimumBytes[fsType], fsType, mkfsOptions: [] }
  const target = world.target('a', 'one')
  const mount = () => engine.mount({ name: 'one', target, readOnly: false, mountOptions: [] })
  const unmount = () => engine.unmount('one', target)
  const work: Record<LifeStep, () => Promise<unknown>> = {
    make: () => engine.create('one', spec),
    mount,
    unmount,
    'mount again': mount,
    'unmount again': unmount,
    remove: () => engine.remove('one'),
  }
  await engine.create('first', spec)
  const counted = Object.fromEntries(lifeSteps.map((step) => [step, [] as string[]])) as Record<LifeStep, string[]>
  for (const step of lifeSteps) {
    started.length = 0
    await work[step]()
    counted[step] = [...started]
  }
  await engine.remove('first')
  await engine.stop()
  return counted
}
