import { chmod, mkdir, readdir, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as assert from 'uvu/assert'
import { withScratch } from '../test/scratch.ts'
import { suite } from '../test/suite.ts'
import { thrownBy } from '../test/thrown.ts'
import { makeFolders, removeFile, removeTemporaries, replaceFile } from './files.ts'

const test = suite('files')

const failsWith = async (code: string, work: () => Promise<void>) => {
  const error: NodeJS.ErrnoException = await thrownBy(Error, work)
  assert.is(error.code, code)
}

test('makeFolders() makes what is missing, also when asked twice at once, and leaves what is there', () =>
  withScratch(async (folder) => {
    const path = join(folder, 'a/b/c')
    await Promise.all([makeFolders(path, 0o700), makeFolders(path, 0o700)])
    await makeFolders(path, 0o755)
    assert.is((await stat(path)).mode & 0o7777, 0o700)
    await symlink('nowhere', join(folder, 'link'))
    await failsWith('ENOENT', () => makeFolders(join(folder, 'link/a'), 0o700))
    await writeFile(join(folder, 'file'), '')
    await failsWith('ENOTDIR', () => makeFolders(join(folder, 'file/a'), 0o700))
  }))

test('replaceFile() makes a file and puts new content in its place, with that mode, and leaves no other file', () =>
  withScratch(async (folder) => {
    const path = join(folder, 'file')
    await replaceFile(path, 'a long text')
    assert.is((await stat(path)).mode & 0o7777, 0o600)
    await chmod(path, 0o777)
    await replaceFile(path, Buffer.from('ä'), 0o644)
    assert.is(await readFile(path, 'utf8'), 'ä')
    assert.is((await stat(path)).mode & 0o7777, 0o644)
    assert.equal(await readdir(folder), ['file'])
  }))

test('of several who write, or remove, one file at once, each comes to its end, and the last one has its way', () =>
  withScratch(async (folder) => {
    const path = join(folder, 'file')
    for (let round = 0; round < 20; round += 1) {
      await Promise.all(['a', 'b', 'c'].map((text) => replaceFile(path, text)))
      assert.is(await readFile(path, 'utf8'), 'c')
      await Promise.all([replaceFile(path, 'd'), removeFile(path), replaceFile(`${folder}/./file`, 'e')])
      assert.is(await readFile(path, 'utf8'), 'e')
    }
    assert.equal(await readdir(folder), ['file'])
  }))

test('replaceFile() gives the file its mode whatever the umask is', () =>
  withScratch(async (folder) => {
    const umask = process.umask(0o777)
    try {
      await replaceFile(join(folder, 'file'), '', 0o755)
    } finally {
      process.umask(umask)
    }
    assert.is((await stat(join(folder, 'file'))).mode & 0o7777, 0o755)
  }))

test('replaceFile() replaces a running program, and a reader keeps what it opened', () =>
  withScratch(async (folder) => {
    const path = join(folder, 'file')
    await replaceFile(path, 'old')
    const before = (await stat(path)).ino
    await replaceFile(path, 'new')
    assert.is.not((await stat(path)).ino, before)
  }))

test('replaceFile() follows no link, neither at its own place nor at that of its temporary file', () =>
  withScratch(async (folder) => {
    const [path, theirs] = [join(folder, 'file'), join(folder, 'theirs')]
    await writeFile(theirs, 'theirs')
    await symlink(theirs, path)
    await symlink(theirs, join(folder, '.file.tmp'))
    await replaceFile(path, 'ours')
    assert.is(await readFile(theirs, 'utf8'), 'theirs')
    assert.is(await readFile(path, 'utf8'), 'ours')
  }))

test('replaceFile() works over the temporary file that a crash left', () =>
  withScratch(async (folder) => {
    await writeFile(join(folder, '.file.tmp'), 'half a reco')
    await replaceFile(join(folder, 'file'), 'whole')
    assert.is(await readFile(join(folder, 'file'), 'utf8'), 'whole')
    assert.equal(await readdir(folder), ['file'])
  }))

test('removeTemporaries() removes what a crash left in the folders of a folder, and nothing else', () =>
  withScratch(async (folder) => {
    for (const path of ['records', 'trash/one']) await mkdir(join(folder, path), { recursive: true })
    const kept = ['file', '.file.tmp', 'records/.keep', 'records/one.tmp', 'trash/one/.two.tmp']
    for (const path of [...kept, 'records/.one.json.tmp']) await writeFile(join(folder, path), '')
    await removeTemporaries(folder)
    const files = await readdir(folder, { recursive: true, withFileTypes: true })
    const left = files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name))
    assert.equal(left.sort(), kept.map((path) => join(folder, path)).sort())
    await removeTemporaries(join(folder, 'missing'))
  }))

test('replaceFile() fails where there is no folder, and where a folder is in the way', () =>
  withScratch(async (folder) => {
    await failsWith('ENOENT', () => replaceFile(join(folder, 'missing/file'), ''))
    await mkdir(join(folder, 'file/inside'), { recursive: true })
    await failsWith('EISDIR', () => replaceFile(join(folder, 'file'), ''))
    assert.equal(await readdir(join(folder, 'file')), ['inside'])
    assert.equal(await readdir(folder), ['file'])
  }))

test('removeFile() removes a file, has nothing to do when there is none, and removes no folder', () =>
  withScratch(async (folder) => {
    const path = join(folder, 'file')
    await writeFile(path, '')
    await removeFile(path)
    await removeFile(path)
    assert.equal(await readdir(folder), [])
    await failsWith('EISDIR', () => removeFile(folder))
  }))

test.run()
