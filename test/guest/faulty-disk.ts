/** Disks of a guest that can be made to fail: pieces of `/dev/vda`, each behind a device-mapper device of its own. */
import { run } from '../../src/run.ts'

const sectorsPerMebibyte = 2048
/** LVM's label and metadata, which stay readable when only the data fails (pvcreate(8)). */
const headMebibytes = 1
/** Between the pieces, so that none begins where `/dev/vda` would show the same label. */
const gapMebibytes = 8

let takenMebibytes = 0

export class FaultyDisk {
  readonly name: string
  readonly path: string
  readonly #startMebibytes: number
  readonly #mebibytes: number

  private constructor(name: string, mebibytes: number) {
    this.name = name
    this.path = `/dev/mapper/${name}`
    this.#startMebibytes = takenMebibytes + gapMebibytes
    this.#mebibytes = mebibytes
    takenMebibytes = this.#startMebibytes + mebibytes
  }

  /** Takes that much of `/dev/vda`; nothing gives it back. */
  static async make(name: string, mebibytes: number): Promise<FaultyDisk> {
    const disk = new FaultyDisk(name, mebibytes)
    await dmsetup('create', name, '--table', disk.#linear(0, mebibytes))
    await dmsetup('mknodes', name)
    return disk
  }

  /** From now on all reads and writes fail that lie behind LVM's metadata. */
  async failData(): Promise<void> {
    await this.#replace(`${this.#linear(0, headMebibytes)}\n${error(headMebibytes, this.#mebibytes - headMebibytes)}`)
  }

  /** From now on all reads and writes fail. */
  async failWholly(): Promise<void> {
    await this.#replace(error(0, this.#mebibytes))
  }

  async mend(): Promise<void> {
    await this.#replace(this.#linear(0, this.#mebibytes))
  }

  /** From now on reads and writes wait for `resume()`. */
  async hang(): Promise<void> {
    await dmsetup('suspend', '--noflush', '--nolockfs', this.name)
  }

  async resume(): Promise<void> {
    await dmsetup('resume', this.name)
  }

  #linear(from: number, mebibytes: number): string {
    const [start, length, offset] = [from, mebibytes, this.#startMebibytes + from].map((n) => n * sectorsPerMebibyte)
    return `${start} ${length} linear /dev/vda ${offset}`
  }

  async #replace(table: string): Promise<void> {
    await this.hang()
    await dmsetup('load', this.name, '--table', table)
    await this.resume()
  }
}

const error = (from: number, mebibytes: number) =>
  `${from * sectorsPerMebibyte} ${mebibytes * sectorsPerMebibyte} error`

/** Guests have no udev, which dmsetup would wait for and leave the making of nodes to. */
async function dmsetup(...args: string[]): Promise<void> {
  await run('dmsetup', ['--noudevsync', '--noudevrules', ...args])
}
