import * as assert from 'uvu/assert'
import { suite } from '../suite.ts'
import { thrownBy } from '../thrown.ts'
import { overlayManifest } from './deploy-overlay.ts'

const test = suite('deploy-overlay')

const manifest = `
apiVersion: v1
kind: Namespace
metadata: { name: n }
---
kind: DaemonSet
spec:
  selector: { matchLabels: &labels { a: b } }
  template:
    metadata: { labels: *labels }
    spec:
      initContainers:
        - { name: first, image: real }
      containers:
        - &main { name: main, image: real, env: [{ name: KEPT, value: '1' }, { name: SET, value: '2' }] }
        - { <<: *main, name: other }
---
kind: Pod
spec:
  containers: [{ name: only, image: real }]
---
# Nothing.
`

test('overlayManifest() changes the pods of a manifest, and nothing else', () => {
  const [namespace, daemonSet, pod, ...more] = overlayManifest(manifest, {
    pod: { hostNetwork: true },
    container: { image: 'test', imagePullPolicy: 'Never' },
    env: { SET: '3' },
  })
  const fields = { image: 'test', imagePullPolicy: 'Never' }
  const set = { name: 'SET', value: '3' }
  const env = [{ name: 'KEPT', value: '1' }, set]
  assert.equal(namespace, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'n' } })
  assert.equal(daemonSet, {
    kind: 'DaemonSet',
    spec: {
      selector: { matchLabels: { a: 'b' } },
      template: {
        metadata: { labels: { a: 'b' } },
        spec: {
          hostNetwork: true,
          initContainers: [{ name: 'first', ...fields, env: [set] }],
          containers: [
            { name: 'main', ...fields, env },
            { name: 'other', ...fields, env },
          ],
        },
      },
    },
  })
  assert.equal(pod, {
    kind: 'Pod',
    spec: { hostNetwork: true, containers: [{ name: 'only', ...fields, env: [set] }] },
  })
  assert.equal(more, [])
})

test('overlayManifest() says what is wrong in a manifest', async () => {
  await thrownBy(Error, async () => overlayManifest('a: [', {}))
})

test.run()
