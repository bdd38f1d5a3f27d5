import type { Device, Slice, Stream } from '../device.ts';
import type { CollectiveName, OpArgs } from '../ops.ts';

/** Devices of one host whose operations reach each other's memory, and how they meet. */
export interface PeerLinks {
  /**
   * Puts a rank's part of a collective on its stream. `all` are the arguments of all ranks, whose
   * inputs name those of all. Parts meet on the devices, wherever they are launched from.
   */
  launch<Name extends CollectiveName>(
    rank: number,
    stream: Stream,
    name: Name,
    all: readonly OpArgs[Name][],
  ): void;
  /** Copies to a rank's memory behind the work of both streams. */
  copy(fromStream: Stream, from: Slice, toStream: Stream, to: Slice, rank: number): void;
}

/** The devices that ranks are on: one for each rank, or one for all of them. */
export interface Members {
  readonly devices: readonly Device[];
  readonly ranks: number;
  /** null: all ranks are on one device, where the order of its work is all that is needed. */
  readonly links: PeerLinks | null;
  /** What was launched on all of them. */
  readonly counts: { launches: number; graphLaunches: number };
  memberOf(rank: number): number;
}
