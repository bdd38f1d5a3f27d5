import { type Direction, SHARED_TENANT } from '@bridgekeeper/bridge';
import {
  type Device,
  type DeviceBuffer,
  DeviceError,
  type HostBuffer,
  type Stream,
  slice,
} from '@bridgekeeper/device';
import type { PrefixTree } from './kv/prefix-tree.ts';
import type { LoadedWeights } from './loader/load.ts';
import { EngineError, type SleepRequest } from './request/request.ts';
import type { ForwardParts } from './runner/forward.ts';
import type { Runner } from './runner/runner.ts';
import type { RunnerBuffers } from './runner/shapes.ts';
import type { Traffic } from './traffic/traffic.ts';

export interface SleeperParts {
  readonly device: Device;
  readonly traffic: Traffic;
  readonly runner: Runner;
  readonly parts: ForwardParts;
  readonly tree: PrefixTree;
  readonly loaded: LoadedWeights;
  /** Contexts that weights cross on; none: the launching thread's. */
  readonly contexts: number;
  /**
   * Reads the same model from its folder again; null: that cannot be done. Throws ModelError or
   * DeviceError.
   */
  readonly reload: (() => Promise<LoadedWeights>) | null;
  /** Host memory that could be had now. */
  readonly availableHostBytes: () => number;
}

/** What the prefix tree finds again: pages, and what some models have beside them. */
function kvBuffers({ shape }: ForwardParts): readonly ('kv' | 'kvWindow' | 'snapshots')[] {
  return [
    'kv',
    ...(shape.windowPages > 0 ? (['kvWindow'] as const) : []),
    ...(shape.snapshots > 0 ? (['snapshots'] as const) : []),
  ];
}

/** Host memory that is left to everything else. */
const HOST_RESERVE_BYTES = 2 ** 30;

/**
 * Takes a model's weights and KV off the device and brings them back, while no launch is under way.
 * What was captured names addresses, so graphs go with them and are captured anew.
 *
 * At level 1 the weights cross to pinned host memory. That copy stays right for as long as the
 * engine lives: it is kept after waking up, so that later sleeps cross nothing, and given back by a
 * sleep of level 2.
 */
export class Sleeper {
  readonly #parts: SleeperParts;
  /** What holds the weights on the device; empty while they are not there. */
  #arenas: readonly DeviceBuffer[];
  /** By rank: a copy of what it has of each arena. */
  #copies: readonly (readonly HostBuffer[])[] | null = null;
  #level: 0 | 1 | 2 = 0;
  #hasKv = true;
  /** By rank: what its crossings are queued on. */
  #streams: readonly Stream[] = [];

  constructor(parts: SleeperParts) {
    this.#parts = parts;
    this.#arenas = parts.loaded.buffers;
  }

  /** 0: awake. */
  get level(): 0 | 1 | 2 {
    return this.#level;
  }

  /** Throws EngineError `sleep-refused`, and then nothing has changed. */
  async sleep({ level, keepsKv }: Pick<SleepRequest, 'level' | 'keepsKv'>): Promise<void> {
    const { device, runner, parts, tree, reload } = this.#parts;
    if (level === 2 && reload === null) {
      throw refused('an encrypted model is not read again: its key was erased. Use level 1');
    }
    if (level === 1) this.#copies ??= await this.#copyDown();
    runner.discardGraphs();
    for (const arena of this.#arenas) device.free(arena);
    this.#arenas = [];
    if (!keepsKv) {
      for (const name of kvBuffers(parts)) device.free(parts.buffers[name]);
      tree.forgetDevice();
      this.#hasKv = false;
    }
    if (level === 2) this.#freeCopies();
    this.#level = level;
  }

  /**
   * Throws EngineError `sleep-refused` where device memory is short, and then nothing has changed.
   * After any other error the model is lost.
   */
  async wakeUp(): Promise<void> {
    const { device, runner, parts, loaded, reload } = this.#parts;
    const kv = this.#hasKv ? {} : this.#allocateKv();
    const copies = this.#level === 1 ? this.#copies : null;
    try {
      if (copies === null) {
        const again = await reload!();
        this.#arenas = again.buffers;
        parts.weights = again.weights;
      } else {
        const bytes = copies[0]!.map((copy) => copy.bytes.length);
        this.#arenas = allocateAll(device, bytes, (at) => `weights ${at}`);
        parts.weights = loaded.over(this.#arenas);
      }
    } catch (error) {
      for (const buffer of Object.values(kv ?? {})) device.free(buffer);
      throw isShort(error) ? refused('the device has no room for the weights', error) : error;
    }
    if (copies !== null) await this.#cross('h2d', copies);
    if (kv !== null) parts.buffers = { ...parts.buffers, ...kv };
    this.#hasKv = true;
    await runner.capture();
    this.#level = 0;
  }

  #allocateKv(): Partial<RunnerBuffers> {
    const { device, parts } = this.#parts;
    const names = kvBuffers(parts);
    const bytes = names.map((name) => parts.buffers[name].bytes);
    try {
      const buffers = allocateAll(device, bytes, (at) => names[at]!);
      return Object.fromEntries(names.map((name, at) => [name, buffers[at]!]));
    } catch (error) {
      throw isShort(error) ? refused('the device has no room for KV', error) : error;
    }
  }

  /** Nothing is left of copies that did not all come to their ends. */
  async #copyDown(): Promise<readonly (readonly HostBuffer[])[]> {
    const { device, availableHostBytes } = this.#parts;
    const ofRank = this.#arenas.reduce((sum, arena) => sum + arena.bytes, 0);
    const bytes = ofRank * device.ranks.length;
    const availableBytes = availableHostBytes();
    if (bytes + HOST_RESERVE_BYTES > availableBytes) {
      throw refused(
        `the weights take ${bytes} bytes of host memory, and of ${availableBytes} that are free ` +
          `${HOST_RESERVE_BYTES} are left to others: use level 2`,
      );
    }
    const copies: HostBuffer[][] = device.ranks.map(() => []);
    try {
      for (const [index, rank] of device.ranks.entries()) {
        for (const { bytes, label } of this.#arenas) {
          copies[index]!.push(rank.device.allocateHost(bytes, 'pinned', `copy of ${label}`));
          // Pinning a gibibyte takes half a second: messages get their turn.
          await device.breathe();
        }
      }
      await this.#cross('d2h', copies);
      return copies;
    } catch (error) {
      this.#free(copies);
      throw isShort(error) ? refused('no more host memory can be pinned', error) : error;
    }
  }

  /** Each arena to its copy, or back: on all ranks at once, each by lanes of its own. */
  async #cross(direction: Direction, copies: readonly (readonly HostBuffer[])[]): Promise<void> {
    const { device, traffic, contexts } = this.#parts;
    const { ranks } = device;
    if (this.#streams.length === 0) {
      this.#streams = ranks.map((rank) => rank.device.createStream('sleep'));
    }
    const routes = await Promise.all(
      ranks.map((rank, index) => {
        const own = ranks.length === 1 ? traffic : traffic.ofRank(rank.device, index);
        return own.bulkRoute(contexts);
      }),
    );
    const crossings = await Promise.allSettled(
      ranks.flatMap(({ part }, index) =>
        this.#arenas.map((arena, at) =>
          routes[index]!.cross({
            direction,
            device: slice(part(arena)),
            host: copies[index]![at]!,
            hostOffsetBytes: 0,
            stream: this.#streams[index]!,
            purpose: 'weights',
            tenant: SHARED_TENANT,
          }),
        ),
      ),
    );
    await Promise.all(this.#streams.map((stream) => stream.synchronize()));
    await traffic.closeReserved();
    for (const crossing of crossings) if (crossing.status === 'rejected') throw crossing.reason;
  }

  #freeCopies(): void {
    this.#free(this.#copies ?? []);
    this.#copies = null;
  }

  #free(copies: readonly (readonly HostBuffer[])[]): void {
    const { ranks } = this.#parts.device;
    for (const [index, own] of copies.entries()) {
      for (const copy of own) ranks[index]!.device.freeHost(copy);
    }
  }
}

/** A buffer for each size; none where there is no room for all. */
function allocateAll(
  device: Device,
  sizesBytes: readonly number[],
  labelOf: (at: number) => string,
): DeviceBuffer[] {
  const buffers: DeviceBuffer[] = [];
  try {
    for (const [at, bytes] of sizesBytes.entries()) {
      buffers.push(device.allocate(bytes, labelOf(at)));
    }
    return buffers;
  } catch (error) {
    for (const buffer of buffers) device.free(buffer);
    throw error;
  }
}

const isShort = (error: unknown) => error instanceof DeviceError && error.code === 'out-of-memory';

function refused(message: string, cause?: unknown): EngineError {
  return new EngineError('sleep-refused', message, undefined, { cause });
}
