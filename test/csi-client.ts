import type { DescMethodUnary, DescService, MessageInitShape, MessageShape } from '@bufbuild/protobuf'
import { create } from '@bufbuild/protobuf'
import { type Client, credentials, makeClientConstructor, type ServiceError } from '@grpc/grpc-js'
import { defineService } from '../src/csi/service.ts'

/** The methods of a service, as functions. They throw grpc-js's `ServiceError`. */
export type Called<S extends DescService> = {
  [M in keyof S['method']]: S['method'][M] extends DescMethodUnary<infer I, infer O>
    ? (request?: MessageInitShape<I>) => Promise<MessageShape<O>>
    : never
}

/** Calls a service on a unix socket. The caller closes the client. */
export function callService<S extends DescService>(
  socketPath: string,
  service: S,
): { calls: Called<S>; client: Client } {
  const Service = makeClientConstructor(defineService(service), service.typeName)
  // A connection of its own, as a kubelet has for each call.
  const client = new Service(`unix:${socketPath}`, credentials.createInsecure(), {
    'grpc.use_local_subchannel_pool': 1,
  })
  const calls = service.methods.map(({ localName, input }) => [
    localName,
    (request: Record<string, unknown> = {}) =>
      new Promise((resolve, reject) => {
        client[localName]?.(create(input, request), (error: ServiceError | null, answer: unknown) =>
          error ? reject(error) : resolve(answer),
        )
      }),
  ])
  return { calls: Object.fromEntries(calls), client }
}
