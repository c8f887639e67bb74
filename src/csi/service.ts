import {
  create,
  type DescMethodUnary,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import type {
  Server,
  ServerUnaryCall,
  ServiceDefinition,
  sendUnaryData,
  UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { statusOf } from './codes.ts'

/** What answers the calls of a service: the parts of an answer, or a throw. What is not there is unimplemented. */
export type Handlers<S extends DescService> = {
  [M in keyof S['method']]?: S['method'][M] extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>) => Promise<MessageInitShape<O>>
    : never
}

/** A service as grpc-js has it: its methods by name, with what turns their messages into bytes and back. */
export function defineService({ typeName, methods }: DescService): ServiceDefinition {
  return Object.fromEntries(
    methods.map(({ name, localName, input, output }) => [
      localName,
      {
        path: `/${typeName}/${name}`,
        requestStream: false,
        responseStream: false,
        requestSerialize: (message) => Buffer.from(toBinary(input, message)),
        requestDeserialize: (bytes) => fromBinary(input, bytes),
        responseSerialize: (message) => Buffer.from(toBinary(output, message)),
        responseDeserialize: (bytes) => fromBinary(output, bytes),
      },
    ]),
  )
}

/** Has a server answer the calls of a service. */
export function addService<S extends DescService>(server: Server, service: S, handlers: Handlers<S>): void {
  const methods = service.methods.flatMap(({ localName, output }) => {
    const handle = handlers[localName as keyof Handlers<S>] as
      | undefined
      | ((request: unknown) => Promise<Record<string, unknown>>)
    if (!handle) return []
    const answer = (call: ServerUnaryCall<unknown, unknown>, done: sendUnaryData<unknown>) => {
      handle(call.request).then(
        (fields) => done(null, create(output, fields)),
        (error) => done(statusOf(error)),
      )
    }
    return [[localName, answer] as const]
  })
  server.addService(defineService(service), Object.fromEntries(methods) as UntypedServiceImplementation)
}
