import { type Profile, parseProfile, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { VirtualClock } from '../clock/virtual-clock.ts';
import {
  type CopyRequest,
  type Device,
  type HostBuffer,
  type Slice,
  type Stream,
  slice,
} from '../device.ts';
import { openModelDevice } from './model-device.ts';

/**
 * A machine of round numbers, for arithmetic by hand: 1 GB/s and tolls of 10 us (30 us on a queued
 * stream); pinned blocks, pageable to the device takes 1 us to issue; launches take 5 us, graphs
 * 3 us; a kernel takes 2 us or 1 ns a byte, and 1 us on top.
 */
export function roundProfile(changes: Partial<Profile> = {}): Profile {
  const blocking = {
    idleTollNs: 10_000,
    queuedTollNs: 20_000,
    freshTollNs: 0,
    bandwidth: [{ bytes: 1, bytesPerSecond: 1e9 }],
    issuer: { blockedUntil: 'done' as const },
  };
  const free = { ...blocking, issuer: { blockedUntil: 'issued' as const, issueNs: 1_000 } };
  return parseProfile({
    ...referenceProfile('b300-cc'),
    name: 'round',
    crossings: {
      h2d: { pinned: blocking, pageable: free },
      d2h: { pinned: blocking, pageable: blocking },
    },
    contexts: {
      max: 3,
      createNs: 100_000,
      destroyNs: 50_000,
      aggregateRate: [{ contexts: 1, factor: 1 }],
    },
    submission: {
      launchNs: 5_000,
      launchWithWaitNs: 9_000,
      graphLaunchNs: 3_000,
      graphNodeNs: 1_000,
    },
    roofline: {
      memoryBytes: 1_000_000,
      copyBytesPerSecond: 1e9,
      bf16FlopsPerSecond: 1e12,
      fp8FlopsPerSecond: 2e12,
      kernelNs: 2_000,
    },
    ...changes,
  });
}

/** A modelled device with a stream and a buffer on a clock of its own. */
export class ModelBench {
  readonly clock = new VirtualClock();
  readonly device: Device;
  readonly stream: Stream;
  readonly pinned: HostBuffer;
  readonly pageable: HostBuffer;
  readonly memory: Slice;

  constructor(profile = roundProfile(), ranks = 1) {
    this.device = openModelDevice({ clock: this.clock, law: profileLaw(profile), ranks });
    this.stream = this.device.createStream('bench');
    this.pinned = this.device.allocateHost(10_000, 'pinned', 'bench pinned');
    this.pageable = this.device.allocateHost(10_000, 'pageable', 'bench pageable');
    this.memory = slice(this.device.allocate(10_000, 'bench'));
  }

  /** A kernel of exactly `bytes` bytes: `bytes` ns, and 1 us on top. */
  kernel(bytes: number, stream = this.stream): void {
    const args = { out: this.memory, elements: bytes / 2, type: 'bf16' } as const;
    stream.launch('fill-uniform', { ...args, mean: 0, spread: 1, seed: 1 });
  }

  /** A crossing of `bytes` pinned bytes to the device on the bench's stream, but for `changes`. */
  request(bytes: number, changes: Partial<CopyRequest> = {}): CopyRequest {
    return {
      direction: 'h2d',
      device: { ...this.memory, bytes },
      host: this.pinned,
      hostOffsetBytes: 0,
      stream: this.stream,
      purpose: 'probe',
      tenant: 'test',
      ...changes,
    } as CopyRequest;
  }

  /** Runs the clock until `work` is done; returns its result. */
  until<Result>(work: PromiseLike<Result>): Promise<Result> {
    return this.clock.runUntil(work);
  }
}
