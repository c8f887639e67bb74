/** Our messages are those of CSI and of the kubelet, as their Go modules have them. */
import { readFile } from 'node:fs/promises'
import { clone, fromBinary, isFieldSet } from '@bufbuild/protobuf'
import {
  type DescriptorProto,
  type EnumDescriptorProto,
  type FieldDescriptorProto,
  FieldDescriptorProtoSchema,
  type FileDescriptorProto,
  FileDescriptorProtoSchema,
  FileDescriptorSetSchema,
} from '@bufbuild/protobuf/wkt'
import * as assert from 'uvu/assert'
import { file_csi } from '../../src/csi/proto/csi_pb.ts'
import { file_registration } from '../../src/csi/proto/registration_pb.ts'
import { suite } from '../suite.ts'
import { ensureCsiTools } from './build.ts'

const test = suite('messages of CSI')
let theirs: FileDescriptorProto[]

test.before(async () => {
  const { descriptors } = await ensureCsiTools()
  const bytes = Buffer.from(await readFile(descriptors, 'utf8'), 'base64')
  theirs = fromBinary(FileDescriptorSetSchema, bytes).file
})

/** All that a file defines, by full name, with what makes it what it is on the wire. */
function describe(file: FileDescriptorProto): Map<string, string> {
  const all = new Map<string, string>()
  const say = (name: string, ...facts: unknown[]) => all.set(name, facts.join(' '))
  const sayEnum = (scope: string, { name, value }: EnumDescriptorProto) => {
    for (const { name: valueName, number } of value) say(`${scope}.${name}.${valueName}`, 'value', number)
  }
  const sayMessage = (scope: string, { name, field, oneofDecl, nestedType, enumType }: DescriptorProto) => {
    const path = `${scope}.${name}`
    say(path, 'message')
    for (const each of field) say(`${path}.${each.name}`, ...factsOf(each, oneofDecl))
    for (const nested of nestedType) sayMessage(path, nested)
    for (const nested of enumType) sayEnum(path, nested)
  }
  for (const message of file.messageType) sayMessage(file.package, message)
  for (const each of file.enumType) sayEnum(file.package, each)
  for (const { name, method } of file.service)
    for (const { name: methodName, inputType, outputType, clientStreaming, serverStreaming } of method)
      say(`${file.package}.${name}.${methodName}`, inputType, outputType, clientStreaming, serverStreaming)
  return all
}

function factsOf(field: FieldDescriptorProto, oneofs: DescriptorProto['oneofDecl']): unknown[] {
  const { number, type, typeName, label, oneofIndex } = field
  const isInOneof = isFieldSet(field, FieldDescriptorProtoSchema.field.oneofIndex)
  return [number, type, typeName, label, isInOneof ? oneofs[oneofIndex]?.name : 'alone']
}

/** What is ours and not so, or not there, in theirs. */
function findDifferences(ours: FileDescriptorProto, all: readonly FileDescriptorProto[]): string[] {
  const known = new Map(all.flatMap((file) => [...describe(file)]))
  return [...describe(ours)].filter(([name, facts]) => known.get(name) !== facts).map(([name]) => name)
}

test('numbers, names, types and oneofs are theirs', () => {
  assert.equal(findDifferences(file_csi.proto, theirs), [])
  assert.equal(findDifferences(file_registration.proto, theirs), [])
  assert.ok(describe(file_csi.proto).size > 200)
})

test('a wrong number, name, type, label, oneof, enum value or method would be found', () => {
  const change = (work: (file: FileDescriptorProto) => void) => {
    const file = clone(FileDescriptorProtoSchema, file_csi.proto)
    work(file)
    return findDifferences(file, theirs)
  }
  const message = (file: FileDescriptorProto, name: string) =>
    file.messageType.find((each) => each.name === name) ?? assert.unreachable(name)
  const field = (file: FileDescriptorProto, name: string) => {
    const [owner = '', own] = name.split('.')
    const found = message(file, owner)?.field.find((each) => each.name === own)
    return found ?? (assert.unreachable(name) as never)
  }
  const wrong: [string, (file: FileDescriptorProto) => void][] = [
    ['csi.v1.Volume.capacity_bytes', (file) => Object.assign(field(file, 'Volume.capacity_bytes'), { number: 9 })],
    ['csi.v1.Volume.size', (file) => Object.assign(field(file, 'Volume.capacity_bytes'), { name: 'size' })],
    ['csi.v1.Volume.capacity_bytes', (file) => Object.assign(field(file, 'Volume.capacity_bytes'), { type: 4 })],
    ['csi.v1.Volume.volume_id', (file) => Object.assign(field(file, 'Volume.volume_id'), { label: 3 })],
    [
      'csi.v1.VolumeCapability.block',
      (file) => Object.assign(field(file, 'VolumeCapability.block'), { oneofIndex: 7 }),
    ],
    [
      'csi.v1.CreateVolumeResponse.volume',
      (file) => Object.assign(field(file, 'CreateVolumeResponse.volume'), { typeName: '.csi.v1.Topology' }),
    ],
    [
      'csi.v1.VolumeUsage.Unit.INODES',
      (file) => Object.assign(message(file, 'VolumeUsage')?.enumType[0]?.value[2] ?? {}, { number: 3 }),
    ],
    [
      'csi.v1.Identity.Probe',
      (file) => Object.assign(file.service[0]?.method[2] ?? {}, { outputType: '.csi.v1.ProbeRequest' }),
    ],
  ]
  for (const [name, work] of wrong) assert.equal(change(work), [name])
})

test.run()
