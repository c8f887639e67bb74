import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { uuidOfNew } from './device.ts'

const test = suite('devices of LVM')

test('uuidOfNew() believes a path only where it leads to the device of that name, in that very group', () => {
  const group = { name: 'my-vg', uuid: '8frY6e-PoA7-hK38-OXma-OCVa-wzbd-QGt4Ae' }
  const [ours, theirs] = ['8frY6ePoA7hK38OXmaOCVawzbdQGt4Ae', 'x'.repeat(32)]
  const volume = 'vwnwJmaNgRlNgvpMjchTtobnc29Tj05C'
  const right = { name: 'my--vg-pvc--1', uuid: `LVM-${ours}${volume}` }
  assert.is(uuidOfNew(right, group, 'pvc-1'), 'vwnwJm-aNgR-lNgv-pMjc-hTto-bnc2-9Tj05C')
  for (const wrong of [
    { name: 'my--vg-pvc--2' },
    { name: 'my-vg-pvc-1' },
    { name: undefined },
    { uuid: `LVM-${theirs}${volume}` },
    { uuid: `LVM-${ours}${volume}-tpool` },
    { uuid: 'CRYPT-LUKS2-x' },
    { uuid: undefined },
  ])
    assert.is(uuidOfNew({ ...right, ...wrong }, group, 'pvc-1'), undefined)
})

test.run()
