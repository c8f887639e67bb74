import * as assert from 'uvu/assert'
import { suite } from '../../test/suite.ts'
import { hostPathOf } from './host-path.ts'
import { parseMountInfo } from './table.ts'

const test = suite('paths on the host')
const host = parseMountInfo(`27 1 254:0 / / rw shared:1 - ext4 /dev/vda rw
28 27 8:17 / /data rw shared:2 - xfs /dev/sdb1 rw
`)

test("a folder of a container is named by the host's path, whatever the container calls it", () => {
  const container = parseMountInfo(`90 1 0:99 / / rw - overlay overlay rw
91 90 254:0 /srv/one /mnt/volumes rw shared:1 - ext4 /dev/vda rw
92 90 8:17 /two /mnt/other rw shared:2 - xfs /dev/sdb1 rw
93 90 8:33 / /mnt/unseen rw - xfs /dev/sdc1 rw
`)
  const seen = ['/mnt/volumes', '/mnt/volumes/sub', '/mnt/other', '/mnt/unseen', '/elsewhere']
  assert.equal(
    seen.map((path) => hostPathOf(path, container, host)),
    ['/srv/one', '/srv/one/sub', '/data/two', '/mnt/unseen', '/elsewhere'],
  )
})

test('a folder of the host has its own path, also when it is shown elsewhere by a shorter one', () => {
  const more = [...host, ...parseMountInfo('29 27 254:0 /srv/one /v rw - ext4 /dev/vda rw\n')]
  assert.is(hostPathOf('/srv/one', more, more), '/srv/one')
  assert.is(hostPathOf('/v', more, more), '/v')
  assert.is(hostPathOf('/v', [], []), '/v')
})

test.run()
