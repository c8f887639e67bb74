#!/usr/bin/env node
/**
 * Builds dist/elastic-local: the pinned Node with bundles in it (a single executable application, SEA). The small
 * one (src/main.ts with the flex driver) is what Node starts; the other (src/cmd/cli.ts) is an asset that the small one
 * compiles when a role needs it. What only the CSI driver needs of libraries is one more asset.
 *
 *   node build.mjs               for this machine
 *   ARCH=arm64 node build.mjs    for another: dist/elastic-local-arm64
 *
 * The bundles are recreated every time; the executable only when they, or Node, differ from the last time.
 */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { homedir } from 'node:os'
import { basename, dirname, join, relative } from 'node:path'
import { pipeline } from 'node:stream/promises'

const root = import.meta.dirname
const require = createRequire(import.meta.url)
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const architectures = ['x64', 'arm64']

/** Builds the executable for `arch` and returns its path. */
export async function build({ arch = process.arch, log = console.log } = {}) {
  if (!architectures.includes(arch))
    throw new Error(`Cannot build for ARCH=${arch} as it must be ${architectures.join(' or ')}.`)
  const dist = join(root, 'dist')
  mkdirSync(dist, { recursive: true })
  removeLeftovers(dist)
  const output = join(dist, arch === process.arch ? 'elastic-local' : `elastic-local-${arch}`)
  const info = { version: manifest.version, commit: findCommit() }
  const { main, application, csiLibraries } = await bundle(info)
  const node = findNode(arch)

  const stampFile = join(dist, `.${basename(output)}.stamp`)
  const inputs = hash(
    main,
    application,
    csiLibraries,
    node.version,
    readFileSync(import.meta.filename),
    readFileSync(join(root, 'package-lock.json')),
  )
  const stamp = existsSync(stampFile) ? readFileSync(stampFile, 'utf8') : ''
  if (existsSync(output) && stamp === `${inputs} ${await hashFile(output)}\n`) return output
  const shown = `${relative('', output)} (${info.version}, ${info.commit})`
  log(`Building ${shown} ...`)

  const work = join(dist, `.build-${process.pid}`)
  mkdirSync(work)
  try {
    const mainFile = join(work, 'main.cjs')
    writeFileSync(mainFile, main)
    const assets = {}
    for (const [name, script] of Object.entries({ application, 'csi-libraries': csiLibraries })) {
      assets[name] = join(work, `${name}.cjs`)
      writeFileSync(assets[name], script)
      if (arch !== process.arch) continue
      assets[`${name}.cache`] = join(work, `${name}.cache`)
      makeCodeCache(node.path, assets[name], assets[`${name}.cache`])
    }
    await bake({ entry: mainFile, output: join(work, 'out'), arch, assets })
    const stamped = `${inputs} ${await hashFile(join(work, 'out'))}\n`
    rmSync(stampFile, { force: true })
    renameSync(join(work, 'out'), output)
    writeFileSync(stampFile, stamped)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return output
}

/** Takes away what builds that were killed left. */
function removeLeftovers(dist) {
  for (const name of readdirSync(dist)) {
    const pid = /^\.build-([0-9]+)$/.exec(name)?.[1]
    if (pid && !existsSync(`/proc/${pid}`)) rmSync(join(dist, name), { recursive: true, force: true })
  }
}

/** Puts the script `entry` and the assets into a copy of Node for `arch`. */
export async function bake({ entry, output, arch = process.arch, assets = {} }) {
  const sea = require('@yao-pkg/pkg/lib-es5/sea.js').default
  // It tells of each of its steps.
  require('@yao-pkg/pkg/lib-es5/log.js').log.info = () => {}
  const { TMPDIR } = process.env
  // pkg works in a folder that it makes there, from which the script has the same relative path in every build.
  process.env.TMPDIR = dirname(entry)
  try {
    await sea(entry, {
      targets: [{ nodeRange: 'node24', platform: 'linux', arch, output }],
      nodePath: findNode(arch).path,
      // The blob is made by the Node that runs this, of the same version: that of another architecture cannot run here.
      useLocalNode: true,
      seaConfig: {
        // Stays in the executable.
        main: join('..', basename(entry)),
        // The small script gains nothing by one, and no two are the same.
        useCodeCache: false,
        // A line on standard error breaks the kubelet; so does NODE_OPTIONS from somebody's environment.
        disableExperimentalSEAWarning: true,
        execArgvExtension: 'none',
        assets,
      },
      signature: false,
    })
  } finally {
    if (TMPDIR === undefined) delete process.env.TMPDIR
    else process.env.TMPDIR = TMPDIR
  }
}

async function bundle(info) {
  const esbuild = require('esbuild')
  const common = {
    absWorkingDir: root,
    bundle: true,
    platform: 'node',
    format: 'cjs',
    target: 'node24',
    minify: true,
    keepNames: true,
    legalComments: 'none',
    write: false,
    logLevel: 'warning',
    metafile: true,
    define: { elasticLocalBuild: JSON.stringify(info) },
  }
  const results = await Promise.all([
    // No names kept: the flex driver's start counts.
    esbuild.build({ ...common, entryPoints: ['src/main.ts'], keepNames: false, plugins: [applicationFromAsset] }),
    esbuild.build({ ...common, entryPoints: ['src/cmd/cli.ts'], plugins: [librariesFromAsset] }),
    esbuild.build({
      ...common,
      entryPoints: ['src/csi/libraries.ts'],
      // Only what we do not use of grpc-js (channelz, ORCA) reads .proto files.
      external: ['@grpc/proto-loader'],
    }),
  ])
  const [main, ...scripts] = results.map((result) => result.outputFiles[0].text)
  const [application, csiLibraries] = scripts.map((text) => `(function (exports, require, module) {${text}\n})`)
  const inputs = results.flatMap(({ metafile }) => Object.values(metafile.outputs).flatMap((output) => output.inputs))
  return { main, application, csiLibraries, inputs }
}

/** The folders of the npm packages that are in the executable. */
export async function findBundledPackages() {
  const { inputs } = await bundle({})
  const used = inputs.flatMap((files) => Object.entries(files).filter(([, { bytesInOutput }]) => bytesInOutput > 0))
  const folders = used.flatMap(([file]) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(file)?.[0] ?? [])
  return [...new Set(folders)].sort().map((folder) => join(root, folder))
}

/** A function for stubs: it compiles and runs a script that is an asset, and gives what that exports. */
const loadAsset = `
  const { getAssetKeys, getRawAsset } = require('node:sea')
  const { Script } = require('node:vm')
  function loadAsset(name) {
    const asset = (key) => Buffer.from(getRawAsset(key))
    // V8 checks the cache against its version, its flags and the source, and compiles when it does not fit.
    const cachedData = getAssetKeys().includes(name + '.cache') ? asset(name + '.cache') : undefined
    const script = new Script(asset(name).toString('latin1'), { filename: 'elastic-local', cachedData })
    const module = { exports: {} }
    script.runInThisContext()(module.exports, require, module)
    return module.exports
  }
`

/** In the small bundle, `./cmd/cli.ts` is a stub that compiles the asset. */
const applicationFromAsset = {
  name: 'application-from-asset',
  setup(build) {
    build.onResolve({ filter: /^\.\/cmd\/cli\.ts$/ }, ({ path }) => ({ path, namespace: 'application' }))
    build.onLoad({ filter: /.*/, namespace: 'application' }, () => ({
      resolveDir: root,
      contents: `${loadAsset}\nexport const runCli = loadAsset('application').runCli`,
    }))
  },
}

/** What only the CSI driver needs: src/csi/libraries.ts, so that nobody else has its text in memory. */
const libraries = ['@grpc/grpc-js', '@bufbuild/protobuf', '@bufbuild/protobuf/codegenv2', '@bufbuild/protobuf/wkt']

/** In the bundle of the application, each of these is a stub that compiles their asset once. */
const librariesFromAsset = {
  name: 'libraries-from-asset',
  setup(build) {
    build.onResolve({ filter: /.*/ }, ({ path }) =>
      libraries.includes(path) || path === 'csi-libraries' ? { path, namespace: 'csi-libraries' } : undefined,
    )
    build.onLoad({ filter: /.*/, namespace: 'csi-libraries' }, ({ path }) => ({
      resolveDir: root,
      contents:
        path === 'csi-libraries'
          ? `${loadAsset}\nmodule.exports = loadAsset('csi-libraries')`
          : `module.exports = require('csi-libraries')`,
    }))
  },
}

/** Has the target's own Node compile and load a script once, and keeps what V8 made of it. */
function makeCodeCache(nodePath, scriptFile, cacheFile) {
  const program = `
    const { readFileSync, writeFileSync } = require('node:fs')
    const { Script } = require('node:vm')
    const [scriptFile, cacheFile] = process.argv.slice(1)
    const script = new Script(readFileSync(scriptFile, 'latin1'), { filename: 'elastic-local' })
    const module = { exports: {} }
    script.runInThisContext()(module.exports, require, module)
    writeFileSync(cacheFile, script.createCachedData())
  `
  // The same for the same script, every time: what it finds at its start is always the same, and V8 works in one
  // thread with one random seed. V8 does not check a cache by these flags.
  const args = ['--predictable', '--random-seed=1', '-e', program, scriptFile, cacheFile]
  execFileSync(nodePath, args, { env: {}, stdio: ['ignore', 'ignore', 'pipe'] })
}

/** The folder of the npm package that Node of `arch` comes in. */
export function findNodePackage(arch) {
  return dirname(dirname(findNode(arch).path))
}

/** The Node of `arch` that package-lock.json pins: from node_modules, or a cache folder that npm fills. */
function findNode(arch) {
  const name = `node-linux-${arch}`
  const version = manifest.optionalDependencies[name]
  const installed = join(root, 'node_modules', name, 'bin/node')
  if (existsSync(installed)) {
    const found = JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')).version
    if (found !== version) throw new Error(`Cannot use ${name} ${found} as it must be ${version}: run npm ci.`)
    return { path: installed, version }
  }
  if (arch === process.arch) throw new Error(`Cannot find ${name} in node_modules: run npm ci.`)

  const { integrity } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages[
    `node_modules/${name}`
  ]
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'elastic-local')
  const folder = join(cache, `${name}-${version}`)
  const path = join(folder, 'package/bin/node')
  if (existsSync(path)) return { path, version }
  const work = join(cache, `.${name}-${version}-${process.pid}`)
  mkdirSync(work, { recursive: true })
  try {
    execFileSync('npm', ['pack', `${name}@${version}`, '--silent', '--pack-destination', work], {
      cwd: work,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    const archive = join(work, `${name}-${version}.tgz`)
    const found = `sha512-${createHash('sha512').update(readFileSync(archive)).digest('base64')}`
    if (found !== integrity)
      throw new Error(`Cannot use ${name} ${version} as its integrity must be ${integrity}: it is ${found}.`)
    const unpacked = join(work, 'unpacked')
    mkdirSync(unpacked)
    execFileSync('tar', ['-xzf', archive, '-C', unpacked], { stdio: 'inherit' })
    if (!existsSync(folder)) renameSync(unpacked, folder)
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
  return { path, version }
}

const git = (...args) =>
  execFileSync('git', args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim()

/** The commit of the tree, `-dirty` when it differs; `COMMIT` says it where there is no repository. */
export function findCommit() {
  if (process.env.COMMIT) return process.env.COMMIT
  try {
    return git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain') ? '-dirty' : '')
  } catch {
    return 'unknown'
  }
}

/** When the commit was made; `SOURCE_DATE_EPOCH` says it otherwise (in seconds), and where there is no repository. */
export function findCommitDate() {
  if (process.env.SOURCE_DATE_EPOCH) return new Date(Number(process.env.SOURCE_DATE_EPOCH) * 1000)
  try {
    return new Date(Number(git('log', '-1', '--format=%ct')) * 1000)
  } catch {
    return new Date(0)
  }
}

function hash(...parts) {
  const sum = createHash('sha256')
  // Each part with its length, so that no two lists of parts look the same.
  for (const part of parts) sum.update(`${part.length} `).update(part)
  return sum.digest('hex')
}

async function hashFile(path) {
  const sum = createHash('sha256')
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), sum)
  return sum.digest('hex')
}

/** Runs this file again under the pinned Node, which must be the one that makes the SEA blob. */
function runUnderPinnedNode() {
  const { path, version } = findNode(process.arch)
  if (process.versions.node === version) return false
  execFileSync(path, [import.meta.filename], { stdio: 'inherit' })
  return true
}

if (process.argv[1] === import.meta.filename) {
  try {
    if (!runUnderPinnedNode()) await build({ arch: process.env.ARCH || process.arch })
  } catch (error) {
    // A build that failed in the other process has said why.
    if (error.status === undefined) console.error(process.env.DEBUG ? error : error.message)
    process.exitCode = 1
  }
}
