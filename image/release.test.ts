import * as assert from 'uvu/assert'
import { suite } from '../test/suite.ts'
import { findNotes } from './release.ts'

const test = suite('release')
const changelog =
  '# Changelog\n\n## Unreleased\n\n### Added\n- c\n\n## 0.2.0 - 2026-11-29\n\n### Added\n- b\n\n## 0.1.0\n- a\n'

test('the notes are those of that version alone', () => {
  assert.is(findNotes(changelog, '0.2.0'), '### Added\n- b\n')
  assert.is(findNotes(changelog, '0.1.0'), '- a\n')
})

test('a version that the changelog does not know is not released', () => {
  assert.throws(() => findNotes(changelog, '0.2'), /0\.2 as CHANGELOG\.md has no section of that name/)
})

test.run()
