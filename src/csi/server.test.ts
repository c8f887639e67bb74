import { once } from 'node:events'
import { existsSync, statSync } from 'node:fs'
import { mkdir, rename, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { status } from '@grpc/grpc-js'
import * as assert from 'uvu/assert'
import { callService } from '../../test/csi-client.ts'
import { failureOf, withCsi } from '../../test/csi-world.ts'
import { withScratch } from '../../test/scratch.ts'
import { suite } from '../../test/suite.ts'
import { thrownBy } from '../../test/thrown.ts'
import { VolumeError } from '../volume/errors.ts'
import { csiDriverName, csiSocket, registrationSocket } from './driver.ts'
import { serveGrpc } from './grpc-server.ts'
import { Registration } from './proto/registration_pb.ts'
import { type CsiParts, serveCsi } from './server.ts'

const test = suite('CSI server')

test('it says who it is, what it can do, and whether it is ready', () =>
  withCsi(async ({ identity, ready }) => {
    const { name, vendorVersion } = await identity.getPluginInfo()
    assert.equal([name, vendorVersion], [csiDriverName, '1.2.3'])
    assert.is((await identity.probe()).ready, true)
    ready.is = false
    assert.is((await identity.probe()).ready, false)
    const { capabilities } = await identity.getPluginCapabilities()
    assert.equal(
      capabilities.map(({ type }) => [type.case, type.value?.type]),
      [
        ['service', 2],
        ['service', 1],
        ['volumeExpansion', 1],
      ],
    )
  }))

test('in a cluster, it makes and removes nothing by itself, and says so', () =>
  withCsi(
    async ({ identity, controller }) => {
      const { capabilities } = await identity.getPluginCapabilities()
      assert.not.ok(capabilities.some(({ type }) => type.case === 'service' && type.value.type === 1))
      assert.is((await failureOf(controller.createVolume())).code, status.UNIMPLEMENTED)
    },
    () => ({ standalone: false }),
  ))

test('only root can use the sockets, and what a killed daemon left in their place goes', () =>
  withScratch(async (folder) => {
    const [left, path] = [createServer(), `${folder}/new/socket`]
    await mkdir(dirname(path))
    await new Promise<void>((resolve) => left.listen(path, resolve))
    const server = await serveGrpc(path, () => {})
    assert.ok(statSync(path).isSocket())
    assert.is(statSync(path).mode & 0o777, 0o600)
    await server.close()
    left.close()
  }))

test('the kubelet is told where the driver is once it registers, and what comes of that is in the log', () => {
  const refused: string[] = []
  const onRefused = (message: string) => refused.push(message)
  return withCsi(
    async ({ kubeletDir, csi, logged }) => {
      assert.not.ok(existsSync(registrationSocket(kubeletDir)))
      await csi.register()
      const { calls, client } = callService(registrationSocket(kubeletDir), Registration)
      const { type, name, endpoint, supportedVersions } = await calls.getInfo()
      assert.equal(
        [type, name, endpoint, supportedVersions],
        ['CSIPlugin', csiDriverName, csiSocket(kubeletDir), ['1.0.0']],
      )
      await calls.notifyRegistrationStatus({ pluginRegistered: true })
      await calls.notifyRegistrationStatus({ error: 'collision' })
      assert.equal(logged, [
        'The kubelet has registered the CSI driver.',
        'The kubelet did not register the CSI driver: collision',
      ])
      assert.equal(refused, logged.slice(1))
      client.close()
    },
    () => ({ onRefused }),
  )
})

test('it leaves the registration first, and answers on; at its end nothing is left of its sockets', () =>
  withCsi(async ({ kubeletDir, csi, identity }) => {
    await csi.register()
    await identity.probe()
    assert.is(await csi.findFailure(), undefined)
    await csi.leave()
    assert.is(await csi.findFailure(), undefined)
    assert.not.ok(existsSync(registrationSocket(kubeletDir)))
    await identity.probe()
    await csi.close()
    assert.not.ok(existsSync(csiSocket(kubeletDir)))
  }))

test('it tells when one of its sockets was removed or replaced', () =>
  withCsi(async ({ kubeletDir, csi }) => {
    await csi.register()
    assert.is(await csi.findFailure(), undefined)
    const path = registrationSocket(kubeletDir)
    await writeFile(`${path}.new`, '')
    await rename(`${path}.new`, path)
    assert.match((await csi.findFailure()) ?? '', /elastic-local-reg\.sock was removed or replaced/)
  }))

test('while the daemon stops, calls are to be made again', () =>
  withCsi(async ({ drain, node, target }) => {
    await drain.stop()
    const { code, details } = await failureOf(node.nodeUnpublishVolume({ volumeId: 'pvc-1', targetPath: target('a') }))
    assert.is(code, status.UNAVAILABLE)
    assert.match(details, /the daemon is stopping/)
  }))

test('who sends nothing, or no HTTP/2, keeps nobody from being served, nor it from its end', () =>
  withCsi(async ({ kubeletDir, csi, identity }) => {
    const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'
    for (const text of ['', 'GET / HTTP/1.1\r\n\r\n', preface, `${preface}${'x'.repeat(100)}`, '\0'.repeat(10_000)])
      for (let i = 0; i < 20; i++) {
        const socket = connect({ path: csiSocket(kubeletDir) })
        socket.on('error', () => {})
        await once(socket, 'connect')
        if (text) socket.write(text)
      }
    await identity.probe()
    await csi.close()
    assert.not.ok(existsSync(csiSocket(kubeletDir)))
  }))

test('one that stops before it was registered is not registered any more', () =>
  withCsi(async ({ kubeletDir, csi }) => {
    await csi.leave()
    await csi.register()
    assert.not.ok(existsSync(registrationSocket(kubeletDir)))
  }))

test('one that stops while it is registered is not registered any more', () =>
  withCsi(async ({ kubeletDir, csi }) => {
    const registering = csi.register()
    await csi.leave()
    await registering
    assert.not.ok(existsSync(registrationSocket(kubeletDir)))
    await csi.close()
  }))

test('below a folder whose path is too long for a socket nothing is served, and it is said', () =>
  withScratch(async (folder) => {
    const kubeletDir = join(folder, 'x'.repeat(107 - folder.length - 1 - '/plugins/elastic-local/csi.sock'.length))
    const parts = {} as Omit<CsiParts, 'kubeletDir'>
    const error = await thrownBy(VolumeError, () => serveCsi({ ...parts, kubeletDir }))
    assert.match(
      error.message,
      /^Cannot listen on .*-reg\.sock as the path of a socket must have at most 107 bytes: it has 116\.$/,
    )
  }))

test.run()
