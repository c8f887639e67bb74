/**
 * Loaded into a real daemon before it starts (`node --import`), to kill it for good at the step that `DOOM` names, as
 * `<moment> <step>`. Writes its steps into the file `DOOM_STEPS`, a line each.
 */
import { appendFileSync } from 'node:fs'
import './steps.ts'
import { Life, type Moment, type Step } from './life.ts'

class Doomed extends Life {
  override take(label: string, kind: Step['kind']): Moment | undefined {
    appendFileSync(process.env.DOOM_STEPS ?? '/dev/null', `${label.replaceAll('\n', ' ')}\n`)
    return super.take(label, kind)
  }

  override end(killing?: Parameters<Life['end']>[0]): void {
    if (killing?.pid) process.kill(-killing.pid, 'SIGKILL')
    process.kill(process.pid, 'SIGKILL')
  }
}

const life = new Doomed()
const [moment, step] = process.env.DOOM?.split(' ') ?? []
if (moment === 'before' || moment === 'during' || moment === 'after') life.arm({ moment, step: Number(step) })
Life.whole = life
