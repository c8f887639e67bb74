/** The software bill of materials: what is in the image, for those who look for what is vulnerable, or licensed. */
import { Factories } from '@cyclonedx/cyclonedx-library/Contrib/License'
import { ComponentType, HashAlgorithm } from '@cyclonedx/cyclonedx-library/Enums'
import { Bom, Component, HashDictionary, LicenseRepository } from '@cyclonedx/cyclonedx-library/Models'
import { JSON as Json, JsonSerializer } from '@cyclonedx/cyclonedx-library/Serialize'
import { Spec1dot6 } from '@cyclonedx/cyclonedx-library/Spec'
import { PackageURL } from 'packageurl-js'
import validateExpression from 'spdx-expression-parse'
import { type Architecture, release } from './contents.ts'
import type { Part } from './parts.ts'

/** Which image it is. */
export interface Subject {
  version: string
  architecture: Architecture
  created: Date
}

/** Writes what is in the image as CycloneDX JSON; the same for the same parts. */
export function buildBom({ version, architecture, created }: Subject, parts: readonly Part[]): string {
  const bom = new Bom()
  const image = new Component(ComponentType.Container, 'elastic-local', {
    version,
    bomRef: 'elastic-local',
    licenses: new LicenseRepository([licence.makeFromString('Apache-2.0')]),
  })
  bom.metadata.timestamp = created
  bom.metadata.component = image
  for (const part of parts) {
    const component = buildComponent(part, architecture)
    bom.components.add(component)
    image.dependencies.add(component.bomRef)
  }
  const serializer = new JsonSerializer(new Json.Normalize.Factory(Spec1dot6))
  return `${serializer.serialize(bom, { sortLists: true, space: 2 })}\n`
}

const licence = new Factories.LicenseFactory((text) => void validateExpression(text))

function buildComponent({ kind, name, version, hash, licences }: Part, architecture: Architecture): Component {
  const algorithm = hash.algorithm === 'SHA-256' ? HashAlgorithm['SHA-256'] : HashAlgorithm['SHA-512']
  const purl = buildPurl(kind, name, version, architecture)
  const [group, ...rest] = name.startsWith('@') ? name.split('/') : [undefined, name]
  return new Component(kind === 'node' ? ComponentType.Platform : ComponentType.Library, rest.join('/'), {
    ...(group ? { group } : {}),
    version,
    purl,
    bomRef: purl,
    hashes: new HashDictionary([[algorithm, hash.value]]),
    licenses: new LicenseRepository(
      licences.map((text) => (kind === 'deb' ? licence.makeDisjunctive(text) : licence.makeFromString(text))),
    ),
    ...(kind === 'node' ? { cpe: `cpe:2.3:a:nodejs:node.js:${version}:*:*:*:-:*:*:*` as const } : {}),
  })
}

/** The name by which scanners know a package (purl-spec). */
function buildPurl(kind: Part['kind'], name: string, version: string, architecture: Architecture): string {
  if (kind === 'node') return new PackageURL('generic', undefined, name, version).toString()
  if (kind === 'deb') {
    const qualifiers = { arch: architecture, distro: release }
    return new PackageURL('deb', 'debian', name, version, qualifiers).toString()
  }
  const [last = '', namespace] = name.split('/').reverse()
  return new PackageURL('npm', namespace, last, version).toString()
}
