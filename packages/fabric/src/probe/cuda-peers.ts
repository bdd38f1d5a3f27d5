import { addressOf, CUDA, DRIVER_LIBRARY, Driver } from '@bridgekeeper/native';
import { FabricError } from '../errors.ts';
import { PEER_KERNELS } from './kernels.ts';
import { COPY_BYTES_MAX, type Move, type PeerGpu, type PeerGpus } from './peers.ts';

const CHECKED_BYTES = 2 ** 20;
const TEXT_BYTES = 256;
const THREADS = 512;
const BLOCKS_PER_SM = 4;
const VECTOR_BYTES = 16;
/** Addresses to follow: few enough for the home's cache, each on a line of its own. */
const CHAIN = 256;
const CHAIN_STRIDE_BYTES = 512;

export interface CudaPeersOptions {
  /** Monotonic, in ns. */
  readonly nowNs: () => number;
  /** The most that one copy moves, in bytes. */
  readonly copyBytesMax?: number;
  /** Overrides what the system's loader finds. */
  readonly driverPath?: string;
}

interface OpenGpu {
  readonly ordinal: number;
  readonly context: bigint;
  readonly source: bigint;
  readonly target: bigint;
  readonly blocks: number;
  readonly chase: bigint;
  readonly move: bigint;
}

/** All GPUs that this process sees, by the driver's API alone. Throws FabricError. */
export function openCudaPeers({
  nowNs,
  copyBytesMax = COPY_BYTES_MAX,
  driverPath = DRIVER_LIBRARY,
}: CudaPeersOptions): PeerGpus {
  const fail = (error: Error) => new FabricError('probe-failed', error.message, { cause: error });
  const driver = new Driver(driverPath, fail);
  const copyPeer = needed(driver, 'cuMemcpyPeerAsync', ['u64', 'u64', 'u64', 'u64', 'u64', 'u64']);

  const count = driver.read('cuDeviceGetCount').i32;
  const opened: OpenGpu[] = [];
  const streams = new Map<string, bigint>();
  const use = (gpu: number) => driver.call('cuCtxSetCurrent', opened[gpu]!.context);

  const close = () => {
    for (const [name, stream] of streams) {
      driver.release('cuCtxSetCurrent', opened[Number(name.split(' ')[0])]!.context);
      driver.release('cuStreamDestroy_v2', stream);
    }
    for (const { ordinal, context, source, target } of opened) {
      driver.release('cuCtxSetCurrent', context);
      driver.release('cuMemFree_v2', source);
      driver.release('cuMemFree_v2', target);
      driver.release('cuDevicePrimaryCtxRelease_v2', ordinal);
    }
  };

  const gpus: PeerGpu[] = [];
  const reach = new Set<string>();
  try {
    for (let ordinal = 0; ordinal < count; ordinal++) {
      opened.push(openGpu(driver, ordinal, copyBytesMax));
      gpus.push(describe(driver, ordinal));
    }
    connect(driver, opened, reach);
  } catch (error) {
    close();
    throw error;
  }

  /** One for each direction and side, so that moves of a round do not wait for each other. */
  const streamOf = (of: number, { from, to }: Move): bigint => {
    const name = `${of} ${from} ${to}`;
    let stream = streams.get(name);
    if (stream === undefined) {
      stream = driver.read('cuStreamCreateWithPriority', CUDA.STREAM_NON_BLOCKING, 0).pointer;
      streams.set(name, stream);
    }
    return stream;
  };
  const timed = (
    moves: readonly Move[],
    rounds: number,
    side: (move: Move) => number,
    issue: (move: Move, stream: bigint) => void,
  ): number => {
    const begunNs = nowNs();
    for (let round = 0; round < rounds; round++) {
      for (const move of moves) {
        use(side(move));
        issue(move, streamOf(side(move), move));
      }
    }
    for (const move of moves) driver.call('cuStreamSynchronize', streamOf(side(move), move));
    return nowNs() - begunNs;
  };
  const launch = (
    kernel: bigint,
    stream: bigint,
    blocks: number,
    threads: number,
    args: bigint[],
  ) => {
    // Addresses, then what is at them, in one buffer: it lives until the call has read both.
    const parameters = Buffer.alloc(16 * args.length);
    for (const [i, value] of args.entries()) {
      const at = 8 * (args.length + i);
      parameters.writeBigUInt64LE(value, at);
      parameters.writeBigUInt64LE(addressOf(parameters) + BigInt(at), 8 * i);
    }
    const shape = launchShape(blocks, threads, stream);
    driver.call('cuLaunchKernelEx', shape, kernel, parameters, null);
  };

  const chain = Buffer.alloc(CHAIN * CHAIN_STRIDE_BYTES);
  const from = ({ from }: Move) => from;
  return {
    kind: 'cuda',
    gpus,
    reaches: ({ from, to }) => reach.has(`${to} ${from}`) && reach.has(`${from} ${to}`),
    copy: (moves, bytes, rounds) =>
      timed(moves, rounds, from, ({ from, to }, stream) => {
        const [a, b] = [opened[from]!, opened[to]!];
        copyPeer(b.target, b.context, a.source, a.context, bytes, stream);
      }),
    move: (moves, by, bytes, rounds) => {
      const side = by === 'writer' ? from : ({ to }: Move) => to;
      return timed(moves, rounds, side, (move, stream) => {
        const gpu = opened[side(move)]!;
        const [target, source] = [opened[move.to]!.target, opened[move.from]!.source];
        const vectors = BigInt(Math.floor(bytes / VECTOR_BYTES));
        launch(gpu.move, stream, gpu.blocks, THREADS, [target, source, vectors]);
      });
    },
    load: (move, loads) => {
      const [home, reader] = [opened[move.from]!, opened[move.to]!];
      for (let i = 0; i < CHAIN; i++) {
        const next = BigInt(((i + 1) % CHAIN) * CHAIN_STRIDE_BYTES);
        chain.writeBigUInt64LE(home.source + next, i * CHAIN_STRIDE_BYTES);
      }
      use(move.from);
      const filling = streamOf(move.from, move);
      driver.call('cuMemcpyHtoDAsync_v2', home.source, addressOf(chain), chain.length, filling);
      driver.call('cuStreamSynchronize', filling);
      return timed(
        [move],
        1,
        ({ to }) => to,
        (_, stream) =>
          launch(reader.chase, stream, 1, 1, [home.source, BigInt(loads), reader.target]),
      );
    },
    arrives: (move) => {
      const [a, b] = [opened[move.from]!, opened[move.to]!];
      const bytes = Math.min(CHECKED_BYTES, copyBytesMax);
      const sent = patternOf(move, bytes);
      const got = Buffer.alloc(bytes);
      use(move.to);
      const there = streamOf(move.to, move);
      driver.call('cuMemsetD8Async', b.target, 0, bytes, there);
      driver.call('cuStreamSynchronize', there);
      use(move.from);
      const here = streamOf(move.from, move);
      driver.call('cuMemcpyHtoDAsync_v2', a.source, addressOf(sent), bytes, here);
      copyPeer(b.target, b.context, a.source, a.context, bytes, here);
      driver.call('cuStreamSynchronize', here);
      use(move.to);
      driver.call('cuMemcpyDtoHAsync_v2', addressOf(got), b.target, bytes, there);
      driver.call('cuStreamSynchronize', there);
      return got.equals(sent);
    },
    close,
  };
}

function describe(driver: Driver, ordinal: number): PeerGpu {
  const busIdOf = driver.optional('cuDeviceGetPCIBusId', ['pointer', 'i32', 'i32']);
  const bdf = busIdOf && textOf((text) => busIdOf(text, TEXT_BYTES, ordinal)).toLowerCase();
  return {
    name: textOf((text) => driver.call('cuDeviceGetName', text, TEXT_BYTES, ordinal)),
    bdf,
  };
}

/** A checked function that only a probe of several GPUs calls. */
function needed(driver: Driver, name: string, types: Parameters<Driver['optional']>[1]) {
  const bound = driver.optional(name, types);
  if (bound !== null) return bound;
  throw new FabricError('probe-failed', `the driver has no ${name}: install 525 or newer`);
}

/** Lets each GPU's kernels reach every other one that they can; fills `reach` with those. */
function connect(driver: Driver, opened: readonly OpenGpu[], reach: Set<string>): void {
  const canAccess = needed(driver, 'cuDeviceCanAccessPeer', ['pointer', 'i32', 'i32']);
  const enable = needed(driver, 'cuCtxEnablePeerAccess', ['u64', 'u32']);
  for (const gpu of opened) {
    for (const peer of opened) {
      if (gpu === peer) continue;
      const answer = Buffer.alloc(4);
      canAccess(answer, gpu.ordinal, peer.ordinal);
      if (answer.readInt32LE(0) === 0) continue;
      driver.call('cuCtxSetCurrent', gpu.context);
      enable(peer.context, 0);
      reach.add(`${gpu.ordinal} ${peer.ordinal}`);
    }
  }
}

function openGpu(driver: Driver, ordinal: number, copyBytesMax: number): OpenGpu {
  const context = driver.read('cuDevicePrimaryCtxRetain', ordinal).pointer;
  driver.call('cuCtxSetCurrent', context);
  const image = Buffer.from(`${PEER_KERNELS}\0`);
  const module = driver.read('cuModuleLoadData', image).pointer;
  const multiprocessors = driver.read(
    'cuDeviceGetAttribute',
    CUDA.ATTRIBUTE_MULTIPROCESSORS,
    ordinal,
  ).i32;
  const bytes = Math.max(copyBytesMax, CHAIN * CHAIN_STRIDE_BYTES);
  return {
    ordinal,
    context,
    source: driver.read('cuMemAlloc_v2', bytes).pointer,
    target: driver.read('cuMemAlloc_v2', bytes).pointer,
    blocks: multiprocessors * BLOCKS_PER_SM,
    chase: driver.read('cuModuleGetFunction', module, 'chase').pointer,
    move: driver.read('cuModuleGetFunction', module, 'move').pointer,
  };
}

/** CUlaunchConfig: grid, block and shared bytes as seven words, then stream and attributes. */
function launchShape(blocks: number, threads: number, stream: bigint): Buffer {
  const shape = Buffer.alloc(56);
  for (const [i, value] of [blocks, 1, 1, threads, 1, 1, 0].entries()) {
    shape.writeUInt32LE(value, 4 * i);
  }
  shape.writeBigUInt64LE(stream, 32);
  return shape;
}

/** Differs at every place, and from every other pair's. */
function patternOf({ from, to }: Move, bytes: number): Buffer {
  const pattern = Buffer.alloc(bytes);
  for (let at = 0; at + 4 <= bytes; at += 4) {
    pattern.writeUInt32LE((at * 2_654_435_761 + from * 257 + to + 1) >>> 0, at);
  }
  return pattern;
}

function textOf(write: (text: Buffer) => void): string {
  const text = Buffer.alloc(TEXT_BYTES);
  write(text);
  const end = text.indexOf(0);
  return text.toString('latin1', 0, end < 0 ? text.length : end);
}
