import type { Law } from '@bridgekeeper/bridge';
import {
  CUBLASLT_LIBRARY,
  CUDA,
  CublasLt,
  DRIVER_LIBRARY,
  type Driver,
  findLibrary,
  hostEnvironment,
  type LibraryWanted,
  NVRTC_LIBRARY,
  Nvrtc,
  OutCell,
} from '@bridgekeeper/native';
import { SystemClock } from '../clock/system-clock.ts';
import type { Device, DeviceInfo } from '../device.ts';
import { DeviceError } from '../errors.ts';
import { joinDevices } from '../group/group-device.ts';
import { MAX_CHANNELS } from '../law/channels.ts';
import { Contexts, LAUNCHING_CHANNEL } from '../law/contexts.ts';
import { ImposedLaw } from '../law/imposed-law.ts';
import { Core, type GpuTraits } from './core.ts';
import { CudaDevice } from './cuda-device.ts';
import { Completions } from './handles/completions.ts';
import { answers } from './kernels/answering-folder.ts';
import { defaultKernelCacheFolder, KernelCache } from './kernels/kernel-cache.ts';
import { KernelLibrary } from './kernels/kernel-library.ts';
import type { KernelDefines } from './kernels/kernel-source.ts';
import { type KernelCode, Kernels } from './kernels/kernels.ts';
import type { CopyThread } from './lanes/blocking-copy.ts';
import { InlineLane } from './lanes/inline-lane.ts';
import { type LaneCommons, LaneOpener } from './lanes/lane-opener.ts';
import { Matmul, WORKSPACE_BYTES } from './matmul/matmul.ts';
import { MatmulChoices, type MatmulMachine } from './matmul/matmul-choices.ts';
import { MatmulTuner } from './matmul/matmul-tuner.ts';
import { Memory } from './memory.ts';
import { atBorder, deviceErrorOf, forbid, openDriver } from './native.ts';
import { linkPeers, type Peer } from './peers.ts';

/**
 * Tokens of a KV page: any size reads equally well here, and small pages waste little and share
 * much.
 */
const PREFERRED_PAGE_TOKENS = 16;

/** Left for kernels, workspaces, scratch and captured graphs. */
const RESERVED_BYTES = 512 * 1024 * 1024;

export interface CudaDeviceOptions {
  /** Which GPU, as the driver counts them. */
  readonly ordinal?: number;
  /** Imposed on every crossing and launch; null or absent: they cost what they cost. */
  readonly law?: Law | null;
  /**
   * Contexts that may be open at once, the launching thread's included; by default what the law
   * says, if any.
   */
  readonly maxContexts?: number;
  readonly kernelCacheFolder?: string;
  /** Where kernels lie that were compiled ahead. */
  readonly kernelLibraryFolder?: string;
  /** Fixed in every kernel: for tools. */
  readonly kernelDefines?: KernelDefines;
  /** The driver's library; by default the one that the system's loader finds. */
  readonly driverPath?: string;
  readonly clock?: SystemClock;
}

/**
 * Opens a GPU on this thread, which becomes its launching thread. Throws DeviceError `library-
 * missing` (which, where it was looked for, what to install), `no-device`, `unsupported` or
 * `compile-failed`.
 */
export async function openCudaDevice(options: CudaDeviceOptions = {}): Promise<CudaDevice> {
  return (await openPeer(options)).device;
}

/**
 * Opens so many GPUs, from `ordinal` on, as the ranks of one device; one thread launches on all.
 * Throws DeviceError, as openCudaDevice does, and where there are fewer, or no links between them.
 */
export async function openCudaRanks(
  ranks: number,
  options: CudaDeviceOptions = {},
): Promise<Device> {
  const { ordinal: first = 0 } = options;
  const count = openDriver(options.driverPath ?? DRIVER_LIBRARY).read('cuDeviceGetCount').i32;
  if (first + ranks > count) {
    const from = first === 0 ? '' : ` from GPU ${first} on`;
    const message = `${ranks} ranks need as many GPUs${from}, and the driver sees ${count}`;
    throw new DeviceError('no-device', message);
  }
  const clock = options.clock ?? new SystemClock();
  const opened: OpenedPeer[] = [];
  try {
    for (let ordinal = first; ordinal < first + ranks; ordinal++) {
      opened.push(await openPeer({ ...options, clock, ordinal }));
    }
    const links = await linkPeers(opened);
    return joinDevices(
      opened.map(({ device }) => device),
      links,
    );
  } catch (error) {
    for (const { device } of opened) await device.close();
    throw error;
  }
}

interface OpenedPeer extends Peer {
  readonly device: CudaDevice;
}

async function openPeer(options: CudaDeviceOptions): Promise<OpenedPeer> {
  const { ordinal = 0, law = null, driverPath = DRIVER_LIBRARY } = options;
  const driver = openDriver(driverPath);
  if (law !== null) forbid(driver, law.profile.forbidden);
  const machine = describe(driver, ordinal);
  const majorVersion = Math.floor(machine.cudaVersion / 1000);
  const environment = hostEnvironment();
  const find = (library: LibraryWanted) =>
    atBorder(() => findLibrary(library, majorVersion, environment));
  const ltPath = find(CUBLASLT_LIBRARY);
  const clock = options.clock ?? new SystemClock();
  const wantedFolder = options.kernelCacheFolder ?? defaultKernelCacheFolder();
  // Costs a start, and no more, where it does not.
  const cacheFolder = (await answers(wantedFolder, clock)) ? wantedFolder : null;
  // Not every machine has a compiler, and where kernels were compiled ahead none is needed.
  let nvrtc: Nvrtc | undefined;
  const code: KernelCode = {
    library: new KernelLibrary(options.kernelLibraryFolder),
    cache: new KernelCache(cacheFolder),
    compiler: () => {
      nvrtc ??= new Nvrtc(find(NVRTC_LIBRARY), deviceErrorOf);
      return nvrtc;
    },
  };
  const kernels = new Kernels(driver, code, machine.architecture, options.kernelDefines);
  await kernels.prepare();

  const context = driver.read('cuDevicePrimaryCtxRetain', machine.handle).pointer;
  driver.enter(context);
  const lt = libraryIn(driver, machine, ltPath);
  const store = new MatmulChoices(cacheFolder, matmulMachine(machine, lt));
  const matmul = new Matmul(lt, store.read());
  const limit = options.maxContexts ?? law?.profile.contexts.max ?? MAX_CHANNELS;
  const contexts = new Contexts(limit);
  const imposed =
    law === null ? null : new ImposedLaw(law, contexts.channels, LAUNCHING_CHANNEL, clock);
  const core = new Core({
    driver,
    clock,
    imposed,
    memory: new Memory(driver, law !== null),
    completions: new Completions(driver),
    kernels,
    matmul,
    tuner: new MatmulTuner({ driver, matmul, clock, store }),
    gpu: traitsOf(machine),
  });
  const commons: LaneCommons = {
    driverPath,
    ordinal,
    launchingContext: context,
    counters: core.copies.shared,
    clockOrigin: [...clock.origin],
    profile: law?.profile ?? null,
  };
  const lanes = new LaneOpener(core, commons, contexts);
  const isPartlyAsynchronous = law !== null && letsCopiesBeAsynchronous(law);
  const engine = isPartlyAsynchronous
    ? await lanes.open({ label: 'inline-engine', context: 'shared' })
    : null;
  const thread: CopyThread = { driver, counters: core.copies, clock, imposed, progress: null };
  const info = infoOf(driver, machine, lt);
  const { counters, clockOrigin } = commons;
  const upload = { kind: 'native', driverPath, context, counters, clockOrigin } as const;
  const inline = new InlineLane(core, thread, engine);
  const device = new CudaDevice(info, core, lanes, inline, upload, () =>
    driver.release('cuDevicePrimaryCtxRelease_v2', machine.handle),
  );
  return { device, core, handle: machine.handle, context };
}

/** The context is given back where the library cannot be opened: nobody else knows of it. */
function libraryIn(driver: Driver, { handle }: Machine, path: string): CublasLt {
  try {
    return new CublasLt(path, deviceErrorOf, () => driver.makeCurrent());
  } catch (error) {
    driver.release('cuDevicePrimaryCtxRelease_v2', handle);
    throw error;
  }
}

function letsCopiesBeAsynchronous({ profile }: Law): boolean {
  const { h2d, d2h } = profile.crossings;
  return [h2d.pinned, h2d.pageable, d2h.pinned, d2h.pageable].some(
    ({ issuer }) => issuer.blockedUntil === 'issued',
  );
}

interface Machine {
  /** CUdevice */
  readonly handle: number;
  readonly name: string;
  /** 1000 * major + 10 * minor of the newest CUDA that the driver supports. */
  readonly cudaVersion: number;
  readonly architecture: string;
  /** Its compute capability. */
  readonly major: number;
  readonly minor: number;
  readonly multiprocessors: number;
  readonly sharedBytesOfBlock: number;
}

function traitsOf(machine: Machine): GpuTraits {
  const { major, minor, multiprocessors, sharedBytesOfBlock } = machine;
  return {
    multiprocessors,
    sharedBytesOfBlock,
    launchesDependent: major >= 9,
    hasWarpgroupProducts: major === 9,
    readsFp8: major >= 9 || (major === 8 && minor >= 9),
  };
}

function describe(driver: Driver, ordinal: number): Machine {
  const count = driver.read('cuDeviceGetCount').i32;
  if (ordinal < 0 || ordinal >= count) {
    throw new DeviceError('no-device', `GPU ${ordinal} is not there: the driver sees ${count}`);
  }
  const handle = driver.read('cuDeviceGet', ordinal).i32;
  const name = Buffer.alloc(256);
  driver.call('cuDeviceGetName', name, name.length, handle);
  const attribute = (which: number) => driver.read('cuDeviceGetAttribute', which, handle).i32;
  const major = attribute(CUDA.ATTRIBUTE_MAJOR);
  const minor = attribute(CUDA.ATTRIBUTE_MINOR);
  if (major < 8) {
    throw new DeviceError(
      'unsupported',
      `GPU ${ordinal} has compute capability ${major}.${minor}: bf16 needs 8.0 (Ampere) or newer`,
    );
  }
  return {
    handle,
    name: name.toString('utf8', 0, name.indexOf(0)),
    cudaVersion: driver.read('cuDriverGetVersion').i32,
    // The features of one architecture only, such as Hopper's, go by the suffix.
    architecture: `sm_${major}${minor}${major >= 9 ? 'a' : ''}`,
    major,
    minor,
    multiprocessors: attribute(CUDA.ATTRIBUTE_MULTIPROCESSORS),
    sharedBytesOfBlock: attribute(CUDA.ATTRIBUTE_SHARED_BYTES_OF_BLOCK),
  };
}

function matmulMachine(machine: Machine, lt: CublasLt): MatmulMachine {
  const { name: gpu, architecture, multiprocessors } = machine;
  const workspaceBytes = WORKSPACE_BYTES;
  return { gpu, architecture, multiprocessors, cublasLt: lt.version, workspaceBytes };
}

function infoOf(driver: Driver, machine: Machine, lt: CublasLt): DeviceInfo {
  const total = new OutCell();
  const free = driver.read('cuMemGetInfo_v2', total.bytes).size;
  return {
    kind: 'cuda',
    name: machine.name,
    element: 'bf16',
    memoryBytes: Math.max(free - RESERVED_BYTES, 0),
    ranks: 1,
    preferredPageTokens: PREFERRED_PAGE_TOKENS,
    details: {
      architecture: machine.architecture,
      multiprocessors: machine.multiprocessors,
      totalMemoryBytes: total.size,
      driverCuda: machine.cudaVersion,
      cublasLtPath: lt.path,
    },
  };
}
