import type { Slice, Stream } from '../device.ts';
import { DeviceError } from '../errors.ts';
import type { PeerLinks } from '../group/members.ts';
import type { CollectiveName, OpArgs } from '../ops.ts';
import type { Core } from './core.ts';
import { cudaStream } from './cuda-stream.ts';
import { mailboxBytes, type RankPlace } from './operations/collectives.ts';

/** One GPU of several that reach each other's memory. */
export interface Peer {
  readonly core: Core;
  /** CUdevice */
  readonly handle: number;
  readonly context: bigint;
}

/**
 * GPUs whose kernels read and write each other's memory. Throws DeviceError `unsupported` where one
 * cannot reach another.
 */
export async function linkPeers(peers: readonly Peer[]): Promise<PeerLinks> {
  for (const peer of peers) {
    for (const other of peers) {
      if (other === peer) continue;
      enableAccess(peer, other);
      peer.core.memory.link(other.core.memory);
    }
  }
  const bytes = mailboxBytes(peers.length);
  const mailboxes: bigint[] = [];
  for (const { core } of peers) {
    const address = core.memory.allocateScratch(bytes, 'meetings of ranks');
    await core.clear(address, bytes);
    mailboxes.push(address);
  }
  return new CudaLinks(peers, mailboxes);
}

function enableAccess({ core: { driver }, handle }: Peer, other: Peer): void {
  if (driver.read('cuDeviceCanAccessPeer', handle, other.handle).i32 === 0) {
    throw new DeviceError(
      'unsupported',
      `GPU ${handle} cannot reach the memory of GPU ${other.handle}: ranks need links between ` +
        'their GPUs, and a GPU that is divided (MIG) has none',
    );
  }
  driver.enablePeerAccess(other.context);
}

class CudaLinks implements PeerLinks {
  readonly #peers: readonly Peer[];
  readonly #places: readonly RankPlace[];

  constructor(peers: readonly Peer[], mailboxes: readonly bigint[]) {
    this.#peers = peers;
    const address = (rank: number, what: string, slice: Slice, bytes: number) => {
      if (slice.bytes >= bytes) return peers[rank]!.core.memory.address(slice);
      const message = `${what} needs ${bytes} bytes of "${slice.buffer.label}" on rank ${rank}`;
      throw new DeviceError('bad-argument', message);
    };
    this.#places = peers.map((_, rank) => ({ rank, mailboxes, address }));
  }

  launch<Name extends CollectiveName>(
    rank: number,
    stream: Stream,
    name: Name,
    all: readonly OpArgs[Name][],
  ): void {
    cudaStream(stream).launchCollective(name, all, this.#places[rank]!);
  }

  /**
   * By a kernel: a copy engine that is given a copy between GPUs which waits for an event makes no
   * copies from the host in another context of the first GPU until then, and so would never bring
   * the command that the event stands for (two H200, driver 580).
   */
  copy(fromStream: Stream, from: Slice, toStream: Stream, to: Slice, rank: number): void {
    const [source, target] = [cudaStream(fromStream), cudaStream(toStream)];
    const [first, own] = [this.#peers[0]!, this.#peers[rank]!];
    const [fromAddress, toAddress] = [first.core.memory.address(from), own.core.memory.address(to)];
    follow(own.core, target.handle, first.core, source.handle);
    target.launchPeerCopy(fromAddress, toAddress, to.bytes, this.#peers.length);
    // What comes next to the first must not be what the other still reads.
    follow(first.core, source.handle, own.core, target.handle);
  }
}

/** Later work of `stream` waits for what is queued on `other`, a stream of another GPU. */
function follow(core: Core, stream: bigint, otherCore: Core, other: bigint): void {
  const event = otherCore.completions.mark(other);
  core.driver.call('cuStreamWaitEvent', stream, event, 0);
  // Whoever waits already has what it marks now.
  otherCore.completions.giveBack(event);
}
