import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { buildStatus, findLicences } from './debian.ts'

const test = suite('debian')

test('licences are those that a copyright file names in its fields', () => {
  const copyright = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: GPL-2+

Files: lib/*
License: LGPL-2.1+

License: GPL-2+
 See /usr/share/common-licenses/GPL-2
`
  assert.equal(findLicences(copyright), ['GPL-2+', 'LGPL-2.1+'])
})

test('where it has no fields, they are those that it points to', () => {
  const copyright =
    'It is under the GPL; see /usr/share/common-licenses/GPL-3, and\n`/usr/share/common-licenses/LGPL-2.1`.'
  assert.equal(findLicences(copyright), ['GPL-3', 'LGPL-2.1'])
  assert.equal(findLicences('Do what you like.'), [])
})

test('the status has a stanza for each package, as installed', () => {
  const of = (name: string) => ({
    name,
    version: '1',
    sha256: '',
    folder: '',
    control: `Package: ${name}\nVersion: 1\nDescription: one\n more of it\n`,
  })
  assert.is(
    buildStatus([of('a'), of('b')]),
    'Package: a\nStatus: install ok installed\nVersion: 1\nDescription: one\n more of it\n\n' +
      'Package: b\nStatus: install ok installed\nVersion: 1\nDescription: one\n more of it\n',
  )
})

test.run()
