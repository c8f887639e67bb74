import { rename, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { listenOnSocket, watchSocket } from './socket.ts'

const test = suite('sockets')

test('listenOnSocket() makes a socket for root alone, and closes nothing else that is made meanwhile', () =>
  withScratch(async (folder) => {
    const server = createServer()
    const usual = process.umask()
    const seen: number[] = []
    server.once('listening', () => seen.push(process.umask()))
    await listenOnSocket(server, join(folder, 'new/socket'))
    assert.equal(seen, [usual])
    assert.is((await stat(join(folder, 'new/socket'))).mode & 0o777, 0o600)
    server.close()
  }))

test('watchSocket() tells when the socket was removed, or replaced by another', () =>
  withScratch(async (folder) => {
    const [server, socketPath] = [createServer(), join(folder, 'socket')]
    await listenOnSocket(server, socketPath)
    const check = await watchSocket(socketPath)
    assert.is(await check(), undefined)
    await rename(socketPath, `${socketPath}.away`)
    assert.is(await check(), `its socket ${socketPath} was removed or replaced`)
    await writeFile(socketPath, '')
    assert.is(await check(), `its socket ${socketPath} was removed or replaced`)
    server.close()
  }))

test.run()
