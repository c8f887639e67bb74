import { join } from 'node:path'

/** The driver's name as the cluster's objects hold it. */
export const csiDriverName = 'elastic-local.volumes.k8s.elastic.co'

/** The label that the kubelet puts on its Node, with the node's name: where a volume can be had. */
export const topologyKey = 'volumes.k8s.elastic.co/node'

/** The driver's socket. Paths of sockets have at most 107 bytes (unix(7)), so the names are short. */
export const csiSocket = (kubeletDir: string) => join(kubeletDir, 'plugins/elastic-local/csi.sock')

/** The socket by which the kubelet finds the driver. */
export const registrationSocket = (kubeletDir: string) => join(kubeletDir, 'plugins_registry/elastic-local-reg.sock')
