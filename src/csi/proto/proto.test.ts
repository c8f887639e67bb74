/** What is generated of the .proto files is what they say. */
import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import * as assert from 'uvu/assert'
import { withScratch } from '../../../test/scratch.ts'
import { suite } from '../../../test/suite.ts'
import { run } from '../../run.ts'

const test = suite('generated messages')
const root = join(import.meta.dirname, '../../..')

test('they are those of the .proto files: make proto', () =>
  withScratch(async (folder) => {
    const path = `PATH=${dirname(process.execPath)}:${process.env.PATH}`
    const generate = ['generate', '--template', 'src/csi/proto/buf.gen.yaml', '--output', folder, 'src/csi/proto']
    await run('env', ['-C', root, path, 'node_modules/.bin/buf', ...generate])
    for (const file of ['src/csi/proto/csi_pb.ts', 'src/csi/proto/registration_pb.ts'])
      assert.is(await readFile(join(root, file), 'utf8'), await readFile(join(folder, file), 'utf8'), file)
  }))

test.run()
