import type { Crossing, CrossingRecord } from '@bridgekeeper/bridge';
import type { Driver } from '@bridgekeeper/native';
import type { CopyRequest } from '../../device.ts';
import { DeviceError } from '../../errors.ts';
import type { CudaHostBuffer, Memory } from '../memory.ts';

/** A checked copy by addresses: what lanes make, on whichever thread. */
export interface Copy {
  readonly crossing: Crossing;
  readonly deviceAddress: bigint;
  readonly hostAddress: bigint;
  readonly hostIsFresh: boolean;
}

/** Checks a request against the memory it names. Throws DeviceError `bad-argument`. */
export function checkedCopy(memory: Memory, request: CopyRequest): Copy {
  const { direction, device, hostOffsetBytes, purpose, tenant } = request;
  const host: CudaHostBuffer = memory.host(request.host);
  const { bytes } = device;
  const fits = Number.isSafeInteger(hostOffsetBytes) && hostOffsetBytes >= 0;
  if (!fits || hostOffsetBytes + bytes > host.bytes.length) {
    throw new DeviceError(
      'bad-argument',
      `a copy of ${bytes} bytes at ${hostOffsetBytes} lies outside host buffer "${host.label}" ` +
        `of ${host.bytes.length} bytes`,
    );
  }
  const deviceAddress = memory.address(device);
  const hostIsFresh = host.isFresh;
  host.isFresh = false;
  return {
    crossing: { direction, bytes, purpose, tenant, memory: host.memory },
    deviceAddress,
    hostAddress: host.address + BigInt(hostOffsetBytes),
    hostIsFresh,
  };
}

/** Copies made and their bytes, counted where they are issued, by every thread of a device. */
export class CopyCounters {
  readonly shared: SharedArrayBuffer;
  readonly #cells: BigInt64Array;

  constructor(shared = new SharedArrayBuffer(24)) {
    this.shared = shared;
    this.#cells = new BigInt64Array(shared);
  }

  count({ direction, bytes }: Pick<Crossing, 'direction' | 'bytes'>): void {
    Atomics.add(this.#cells, direction === 'h2d' ? 0 : 1, BigInt(bytes));
    Atomics.add(this.#cells, 2, 1n);
  }

  read(): { h2dBytes: number; d2hBytes: number; copies: number } {
    const [h2dBytes, d2hBytes, copies] = [0, 1, 2].map((i) => Number(Atomics.load(this.#cells, i)));
    return { h2dBytes: h2dBytes!, d2hBytes: d2hBytes!, copies: copies! };
  }
}

/**
 * Issues a copy on a stream, for every lane. Threads that copy up by themselves issue theirs in
 * `upload-engine.ts`; no other copy crosses.
 */
export function issueCopy(
  driver: Driver,
  counters: CopyCounters,
  copy: Copy,
  stream: bigint,
): void {
  const { direction, bytes } = copy.crossing;
  if (bytes > 0) {
    if (direction === 'h2d') {
      driver.call('cuMemcpyHtoDAsync_v2', copy.deviceAddress, copy.hostAddress, bytes, stream);
    } else {
      driver.call('cuMemcpyDtoHAsync_v2', copy.hostAddress, copy.deviceAddress, bytes, stream);
    }
  }
  counters.count(copy.crossing);
}

/** When a copy was issued, started and ended, and for how long its thread was blocked. */
export type CopyTimes = Omit<CrossingRecord, keyof Crossing | 'lane'>;

export function recordOf(copy: Copy, lane: string, times: CopyTimes): CrossingRecord {
  return { ...copy.crossing, lane, ...times };
}
