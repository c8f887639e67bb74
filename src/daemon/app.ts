import { type Context, Hono } from 'hono'
import { bodyLimit } from 'hono/body-limit'
import { toJson } from '../json.ts'
import type { Log } from '../log.ts'
import type { Observe } from '../meter.ts'
import { buildHealthRoutes, type Health } from '../status/health.ts'
import { printable } from '../text/paint.ts'
import type { Engine } from '../volume/engine.ts'
import { messageOf, VolumeError, type VolumeErrorCode } from '../volume/errors.ts'
import { parseVolumeName } from '../volume/name.ts'
import { parseSize } from '../volume/size.ts'
import { buildCallOutRunner, type Subject } from './call-out-runner.ts'
import { userHeader } from './client.ts'
import type { Drain } from './drain.ts'
import { type CallOuts, type Front, volumeNameIn } from './front.ts'
import { Turns } from './turns.ts'
import { findVolume, listVolumes } from './volumes.ts'

export interface AppParts {
  engine: Engine
  drain: Drain
  callOuts: CallOuts
  front: Front
  version: string
  /** What is looked at for a probe; nothing: the daemon is well when it answers. */
  health?: Health
  /** Told of each call-out. */
  observe?: Observe
  log: Pick<Log, 'info' | 'warn'>
}

/** Twice the longest argument that the flex driver can be given (execve(2)). */
const largestBodyBytes = 256 << 10
/** A call that takes longer is answered in pieces, so that whoever waits sees that it is alive. */
const quickMs = 500
const heartbeatMs = 2000
/** How many looks at the volumes go on at a time, so that those who watch do not hold up those who work. */
const looksAtOnce = 4

const statusByCode: Record<VolumeErrorCode, 400 | 404 | 409 | 410 | 500 | 503 | 507> = {
  invalid: 400,
  'not-found': 404,
  lost: 410,
  exists: 409,
  busy: 409,
  'no-space': 507,
  unavailable: 503,
  stopping: 503,
  failed: 500,
}

/**
 * The daemon's HTTP API. Routes of the flex driver answer in the FlexVolume status shape
 * (`{status: 'Success' | 'Failure', message?, device?}`) and always with status 200; `/v1/…`, for people's tools, answers
 * with the thing asked for or `{error: {code, message}}`. What takes long is preceded by white space.
 */
export function buildApp(parts: AppParts): Hono {
  const { engine, front, drain, callOuts, log } = parts
  const looks = new Turns(looksAtOnce)
  const app = new Hono()
  app.use(bodyLimit({ maxSize: largestBodyBytes, onError: refuseBody }))
  // Nothing is begun, and a stop waits for nothing, before the request is whole. The text is kept for the handlers.
  app.use(async (c, next) => {
    const isWhole = await c.req.text().then(
      () => true,
      () => false,
    )
    return isWhole ? await next() : c.body(null, 400)
  })

  const run = buildCallOutRunner(parts)
  /** A call-out: decode, call the engine, answer. `work` says what it is about as soon as it knows. */
  const flex = (path: string, work: (body: Record<string, unknown>, about: Subject) => Promise<object>) =>
    app.post(path, async (c) => {
      const done = readBody(c).then((body) =>
        run({ what: path.slice(1), shown: `${path} ${body.targetDir ?? ''}` }, (about) => work(body, about)),
      )
      const answer = done.then((fields) => ({ status: 'Success', ...fields }), flexFailure)
      return await respond(answer, () => 200)
    })

  app.get('/init', (c) => c.json({ status: 'Success', capabilities: { attach: false } }))

  /** The target of a call-out, which is about the volume there. */
  const targetIn = async ({ targetDir }: Record<string, unknown>, about: Subject) => {
    const target = await callOuts.checkTarget(targetDir)
    about.volume = target.volumeName
    about.pod = target.podUid
    return target
  }
  const mount = async (body: Record<string, unknown>, about: Subject): Promise<object> => {
    const target = await targetIn(body, about)
    const { volumeName: name, podUid, sharedPath: stage } = target
    const options = callOuts.parseOptions(body.options)
    await front.admit(
      { front: 'flex', volumeName: name, options, ...(podUid ? { podUid } : {}) },
      async (admission) => {
        // On the folder that pods share, others may write where this one may not.
        const readOnly = admission.readOnly && podUid !== undefined
        await engine.mount({ name, target: target.path, stage, ...admission, readOnly })
      },
    )
    return {}
  }
  const unmount = async (body: Record<string, unknown>, about: Subject): Promise<object> => {
    const target = await targetIn(body, about)
    await engine.unmount(target.volumeName, target.path)
    return {}
  }
  flex('/mount', mount)
  flex('/unmount', unmount)
  flex('/mountdevice', mount)
  flex('/unmountdevice', unmount)
  flex('/waitforattach', async (body, about) => {
    const options = callOuts.parseOptions(body.options)
    const volumeName = volumeNameIn(options)
    about.volume = volumeName
    const source = await front.admit({ front: 'flex', volumeName, options }, ({ create }) =>
      engine.attach(volumeName, create),
    )
    return { device: source.path }
  })
  flex('/expandfs', async (body, about) => {
    const target = await targetIn(body, about)
    const { volume } = await front.grow(target.volumeName, parseSize(body.newSize, 'the new size'))
    return { volumeNewSize: Number(volume.sizeBytes) }
  })

  /** A request of a person's tool. */
  const api = (work: (c: Context) => Promise<unknown>) => async (c: Context) => {
    let status = 200
    const run = () => drain.run(() => work(c))
    const answer = (c.req.method === 'GET' ? looks.take(run) : run()).catch((error) => {
      const code = error instanceof VolumeError ? error.code : 'failed'
      status = statusByCode[code]
      return { error: { code, message: messageOf(error) } }
    })
    return await respond(answer, () => status)
  }

  /** What a person changes; it is in the log, with who asked. Node tells nobody's credentials: it is what the client says. */
  const change = (what: (name: string) => string, work: (name: string, c: Context) => Promise<{ action: string }>) =>
    api(async (c) => {
      const name = c.req.param('name') ?? ''
      const volume = parseVolumeName(name)
      const claim = front.claimOf(name)
      const about = { volume, ...(claim ? { claim: `${claim.namespace}/${claim.name}` } : {}) }
      const shown = `${what(name)}, requested by ${askedBy(c)}`
      try {
        const answer = await work(name, c)
        log.info(`${shown}: ${answer.action}`, about)
        return answer
      } catch (error) {
        log.warn(`${shown}: ${messageOf(error)}`, about)
        throw error
      }
    })

  app.route('/', buildHealthRoutes(parts.health ?? { alive: [], ready: [] }, parts.version))
  app.get(
    '/v1/volumes',
    api(async () => ({ volumes: await listVolumes(engine, front) })),
  )
  app.get(
    '/v1/volumes/:name',
    api(async (c) => {
      const name = c.req.param('name') ?? ''
      const volume = await findVolume(engine, front, name)
      if (!volume) throw new VolumeError('not-found', `Cannot find volume ${name} on this node.`)
      return { volume }
    }),
  )
  app.delete(
    '/v1/volumes/:name',
    change(
      (name) => `Removal of volume ${name}`,
      (name) => front.remove(name),
    ),
  )
  app.post(
    '/v1/volumes/:name/grow',
    change(
      (name) => `Growth of volume ${name}`,
      async (name, c) => {
        const body = await readBody(c)
        const { action } = await front.grow(name, parseSize(body.sizeBytes, 'sizeBytes'))
        return { action, volume: await findVolume(engine, front, name) }
      },
    ),
  )
  app.get(
    '/v1/pools',
    api(async () => ({ pools: [await engine.report()] })),
  )

  // What a person does with the node besides, and no other request tells of.
  app.post(
    '/v1/notes',
    api(async (c) => {
      const { what } = await readBody(c)
      const text = typeof what === 'string' ? printable(what).slice(0, longestNote) : ''
      if (text === '') throw new VolumeError('invalid', 'Cannot note that as what must be a string: it is not one.')
      log.info(`${text}, requested by ${askedBy(c)}: done`)
      return {}
    }),
  )

  app.notFound((c) => {
    const message = `Cannot ${c.req.method} ${c.req.path}: there is no such route.`
    const isFlex = !c.req.path.startsWith('/v1/')
    return c.json(isFlex ? { status: 'Failure', message } : { error: { code: 'invalid', message } }, 404)
  })
  app.onError((error, c) => {
    log.warn(`${c.req.method} ${c.req.path}: ${messageOf(error)}`)
    return c.json(flexFailure(error), 500)
  })
  return app
}

const longestNote = 1000
const longestUser = 100

function askedBy(c: Context): string {
  const user = printable(c.req.header(userHeader) ?? '').slice(0, longestUser)
  return user === '' ? 'a client that gives no name' : `${user}, as the client says`
}

const tooLarge = new VolumeError('invalid', `Cannot read the request as it must be at most ${largestBodyBytes} bytes.`)

/** Reads the rest away first: an answer to somebody who still sends may never arrive. */
async function refuseBody(c: Context): Promise<Response> {
  await c.req.raw.body?.pipeTo(new WritableStream()).catch(() => {})
  return c.json(flexFailure(tooLarge), 413)
}

function flexFailure(error: unknown): { status: 'Failure'; message: string } {
  return { status: 'Failure', message: messageOf(error) }
}

async function readBody(c: Context): Promise<Record<string, unknown>> {
  const text = await c.req.text()
  try {
    const body: unknown = JSON.parse(text)
    if (typeof body === 'object' && body !== null && !Array.isArray(body)) return body as Record<string, unknown>
  } catch {
    // Falls through to the one message for all that is not a JSON object.
  }
  throw new VolumeError(
    'invalid',
    // Not shown: there may be secrets among it.
    `Cannot read the request as it must be a JSON object: it is something else, ${text.length} characters long.`,
  )
}

/** Answers at once if the work is quick, and otherwise sends white space until it is done. */
async function respond(answer: Promise<unknown>, status: () => number): Promise<Response> {
  const headers = { 'content-type': 'application/json' }
  const early = await Promise.race([answer.then((value) => ({ value })), after(quickMs)])
  if (early) return new Response(`${toJson(early.value)}\n`, { status: status(), headers })
  let timer: NodeJS.Timeout
  let listening = true
  const stream = new ReadableStream<Uint8Array>({
    start: (controller) => {
      const send = (text: string) => {
        if (listening) controller.enqueue(new TextEncoder().encode(text))
      }
      send('\n')
      timer = setInterval(() => send('\n'), heartbeatMs)
      answer.then((value) => {
        clearInterval(timer)
        send(`${toJson(value)}\n`)
        if (listening) controller.close()
      })
    },
    // Whoever asked is gone; the work goes on to its end all the same.
    cancel: () => {
      listening = false
      clearInterval(timer)
    },
  })
  return new Response(stream, { status: 200, headers })
}

function after(ms: number): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), ms))
}
