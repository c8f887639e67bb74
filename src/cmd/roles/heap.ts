import { setFlagsFromString } from 'node:v8'

/**
 * V8 would rather let the heap grow than collect it; on a node, memory belongs to the pods. Less growth than 25 percent
 * saves nothing (bench/memory.ts), and costs: at 10, a sixth of the time of placing claims was spent on collecting.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--semi-space-growth-factor=1')
  setFlagsFromString('--heap-growing-percent=25')
}
