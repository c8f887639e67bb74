/**
 * What is used of the libraries that only CSI needs. In the executable this is a bundle of its own, which stands in for each
 * of them (build.mjs).
 */
export { create, fromBinary, toBinary } from '@bufbuild/protobuf'
export { enumDesc, fileDesc, messageDesc, serviceDesc } from '@bufbuild/protobuf/codegenv2'
export { file_google_protobuf_wrappers } from '@bufbuild/protobuf/wkt'
export { Server, ServerCredentials, status } from '@grpc/grpc-js'
