import type { ForbiddenFeature } from '@bridgekeeper/bridge';
import { addressOf } from '@bridgekeeper/native';
import { DeviceError } from '../../errors.ts';
import type { FeatureVerdict } from '../../instruments.ts';
import { type Copy, issueCopy } from '../copies/copy.ts';
import type { Core } from '../core.ts';
import { createStream } from '../handles/handles.ts';
import { Launcher } from '../launch/launcher.ts';

type Finding = Omit<FeatureVerdict, 'feature'>;

/** CU_DEVICE_ATTRIBUTE_MULTICAST_SUPPORTED of cuda.h. */
const ATTRIBUTE_MULTICAST = 132;
/** CU_EVENT_DEFAULT: an event with a time. */
const EVENT_TIMED = 0;
const PAGE_BYTES = 4_096;
const REGISTERED_BYTES = 2 * 1024 * 1024;

/** One harmless use of each feature that confidential computing may take away. */
export class FeatureTrials {
  readonly #core: Core;
  readonly #device: number;

  constructor(core: Core, device: number) {
    this.#core = core;
    this.#device = device;
  }

  /** Throws DeviceError where the platform, or an imposed law, refuses. */
  try(feature: ForbiddenFeature): Finding {
    switch (feature) {
      case 'host-registration':
        return this.#registerHost();
      case 'mapped-host-reads':
        return this.#readMapped();
      case 'multicast':
        return this.#askMulticast();
      case 'event-timing':
        return this.#timeByEvents();
    }
  }

  #registerHost(): Finding {
    const { driver } = this.#core;
    const unregister = driver.optional('cuMemHostUnregister', ['u64']);
    const room = new Uint8Array(new SharedArrayBuffer(REGISTERED_BYTES + PAGE_BYTES));
    const unaligned = addressOf(room);
    const address = unaligned + ((-unaligned % BigInt(PAGE_BYTES)) + BigInt(PAGE_BYTES));
    driver.call('cuMemHostRegister_v2', address, REGISTERED_BYTES, 0);
    unregister?.(address);
    return { works: true, detail: `cuMemHostRegister took ${REGISTERED_BYTES} bytes` };
  }

  #askMulticast(): Finding {
    const { driver, imposed } = this.#core;
    if (imposed?.law.profile.forbidden.includes('multicast')) {
      throw new DeviceError('forbidden-under-cc', 'the law in force has no multicast');
    }
    const works = driver.read('cuDeviceGetAttribute', ATTRIBUTE_MULTICAST, this.#device).i32 !== 0;
    return { works, detail: `the driver says that multicast is ${works ? '' : 'not '}supported` };
  }

  /** Events against the host's clock over work of some milliseconds. */
  #timeByEvents(): Finding {
    const { driver, memory, clock } = this.#core;
    const stream = createStream(driver, 'normal');
    const bytes = 256 * 1024 * 1024;
    const room = memory.allocateScratch(bytes, 'event timing');
    const [start, end] = [0, 1].map(() => driver.read('cuEventCreate', EVENT_TIMED).pointer);
    try {
      driver.call('cuStreamSynchronize', stream);
      const startedNs = clock.nowNs();
      driver.call('cuEventRecord', start!, stream);
      for (let i = 0; i < 20; i++) driver.call('cuMemsetD8Async', room, i, bytes, stream);
      driver.call('cuEventRecord', end!, stream);
      driver.call('cuStreamSynchronize', stream);
      const hostMs = (clock.nowNs() - startedNs) / 1e6;
      const milliseconds = new Float32Array(1);
      driver.call('cuEventElapsedTime', milliseconds, start!, end!);
      const eventMs = milliseconds[0]!;
      const works = eventMs > hostMs / 2 && eventMs < 1.1 * hostMs;
      const detail = `events say ${eventMs.toFixed(3)} ms, the host ${hostMs.toFixed(3)} ms`;
      return { works, detail };
    } finally {
      driver.release('cuEventDestroy_v2', start!);
      driver.release('cuEventDestroy_v2', end!);
      memory.freeScratch(room);
      driver.release('cuStreamDestroy_v2', stream);
    }
  }

  /** Whether a kernel that reads mapped host memory sees what the host wrote after mapping it. */
  #readMapped(): Finding {
    const { driver, memory } = this.#core;
    const host = memory.allocateHost(2 * PAGE_BYTES, 'pinned', 'mapped memory');
    const stream = createStream(driver, 'normal');
    const room = memory.allocateScratch(PAGE_BYTES + INDEX_BYTES, 'mapped memory');
    const { address } = memory.host(host);
    try {
      const mapped = driver.read('cuMemHostGetDevicePointer_v2', address, 0).pointer;
      const indices = room + BigInt(PAGE_BYTES);
      driver.call('cuMemsetD8Async', indices, 0, INDEX_BYTES, stream);
      const written = host.bytes.subarray(0, PAGE_BYTES);
      const read = host.bytes.subarray(PAGE_BYTES);
      let stale = 0;
      for (let round = 1; round <= WRITES; round++) {
        written.fill(round);
        this.#readLine(mapped, indices, room, stream);
        issueCopy(driver, this.#core.copies, drainOf(room, address + BigInt(PAGE_BYTES)), stream);
        driver.call('cuStreamSynchronize', stream);
        if (read.some((byte) => byte !== round)) stale += 1;
      }
      const detail = `a kernel read ${stale} of ${WRITES} writes stale`;
      return { works: stale === 0, detail };
    } finally {
      driver.release('cuStreamSynchronize', stream);
      memory.freeScratch(room);
      memory.freeHost(host);
      driver.release('cuStreamDestroy_v2', stream);
    }
  }

  /** One line of bf16, read by a kernel. */
  #readLine(from: bigint, indices: bigint, to: bigint, stream: bigint): void {
    const launcher = new Launcher(this.#core, stream);
    const block = launcher.parameters.pointers(from, indices, to).ints(PAGE_BYTES / 2, 1);
    launcher.launch('select_lines', { grid: [1], threads: 256 }, block);
  }
}

const INDEX_BYTES = 256;
const WRITES = 16;

function drainOf(deviceAddress: bigint, hostAddress: bigint): Copy {
  const crossing = {
    direction: 'd2h',
    purpose: 'probe',
    tenant: 'probe',
    memory: 'pinned',
  } as const;
  return {
    crossing: { ...crossing, bytes: PAGE_BYTES },
    deviceAddress,
    hostAddress,
    hostIsFresh: false,
  };
}
