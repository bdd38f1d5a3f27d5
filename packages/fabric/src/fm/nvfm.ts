import { NativeError, NVFM, Nvfm, type NvfmAddress } from '@bridgekeeper/native';
import { FabricError } from '../errors.ts';
import {
  type FabricManager,
  PARTITION_GPUS_MAX,
  PARTITIONS_MAX,
  type Partition,
} from './manager.ts';
import { FM_STATUS } from './status.ts';

const CONNECT_TIMEOUT_MS = 5000;
/** Activating trains links, which takes seconds; reading the list does not. */
const CHANGE_SECONDS = 60;
const LIST_SECONDS = 10;
/** A call that does not return keeps one of four threads, which reading and writing files need. */
const LEFT_BEHIND_MAX = 2;

export interface NvfmOptions {
  readonly address: NvfmAddress;
  /** Calls back once, after so many seconds, unless what it returns is called before. */
  readonly after: (seconds: number, action: () => void) => () => void;
  /** The daemon's version, such as `590.48.01`; the library has no call for it. */
  readonly version: () => Promise<string>;
  /** Overrides what the system's loader finds. */
  readonly libraryPath?: string;
}

/** `ip:port`, `cid:port`, or a path that begins with a slash; null: none of them. */
export function readFmAddress(text: string): NvfmAddress | null {
  if (/^\/[^\0]{1,254}$/.test(text)) return { type: 'unix', text };
  const vsock = /^(\d{1,10}):([1-9]\d{0,9})$/.exec(text);
  if (vsock !== null) {
    const isGood = [vsock[1], vsock[2]].every((part) => Number(part) < 2 ** 32);
    return isGood ? { type: 'vsock', text } : null;
  }
  const inet = /^(\d{1,3}(?:\.\d{1,3}){3}):([1-9]\d{0,4})$/.exec(text);
  const isGood =
    inet !== null &&
    inet[1]!.split('.').every((part) => Number(part) <= 255) &&
    Number(inet[2]) <= 65_535;
  return isGood ? { type: 'inet', text } : null;
}

/**
 * Fabric Manager by NVIDIA's library, opened at the first call. One call at a time: each connects,
 * acts and disconnects. While one is stuck that did not return in time, the process cannot end by
 * itself: its thread would have to end first.
 */
export function nvfmManager(
  options: NvfmOptions,
): FabricManager & { readonly isStuck: () => boolean } {
  let library: Nvfm | null = null;
  let last: Promise<unknown> = Promise.resolve();
  let leftBehind = 0;
  const next = <T>(
    seconds: number,
    act: (nvfm: Nvfm, handle: bigint) => Promise<T>,
  ): Promise<T> => {
    const result = last.then(() => {
      if (leftBehind >= LEFT_BEHIND_MAX) throw stuck(leftBehind);
      library ??= open(options.libraryPath);
      const call = connected(library, options.address, act);
      return withDeadline(options, seconds, call, () => {
        leftBehind += 1;
        const isBack = () => {
          leftBehind -= 1;
        };
        call.then(isBack, isBack);
      });
    });
    // A failed call is its caller's matter; the next one begins all the same.
    last = result.catch(() => undefined);
    return result;
  };
  const change = (what: string, act: (nvfm: Nvfm, handle: bigint) => Promise<number>) =>
    next(CHANGE_SECONDS, async (nvfm, handle) => {
      const status = await act(nvfm, handle);
      if (status !== NVFM.SUCCESS) throw refusal(what, status);
    });
  return {
    isStuck: () => leftBehind > 0,
    version: options.version,
    partitions: () =>
      next(LIST_SECONDS, async (nvfm, handle) => {
        const list = await nvfm.partitions(handle);
        if (typeof list === 'number') throw refusal('reading the partitions', list);
        return readPartitions(list);
      }),
    activate: (id) => change(`activating ${id}`, (nvfm, handle) => nvfm.activate(handle, id)),
    deactivate: (id) => change(`deactivating ${id}`, (nvfm, handle) => nvfm.deactivate(handle, id)),
    setActivated: (ids) => change('resuming', (nvfm, handle) => nvfm.setActivated(handle, ids)),
  };
}

function open(path: string | undefined): Nvfm {
  try {
    return new Nvfm(path);
  } catch (cause) {
    if (!(cause instanceof NativeError)) throw cause;
    throw new FabricError('fm-missing', cause.message, { cause });
  }
}

async function connected<T>(
  nvfm: Nvfm,
  address: NvfmAddress,
  act: (nvfm: Nvfm, handle: bigint) => Promise<T>,
): Promise<T> {
  const handle = await nvfm.connect(address, CONNECT_TIMEOUT_MS);
  if (typeof handle === 'number') throw refusal(`connecting to ${address.text}`, handle);
  try {
    return await act(nvfm, handle);
  } finally {
    await nvfm.disconnect(handle);
  }
}

/** What does not return is left behind on its thread. */
async function withDeadline<T>(
  { after }: NvfmOptions,
  seconds: number,
  call: Promise<T>,
  onLate: () => void,
): Promise<T> {
  let cancel = () => {};
  const late = new Promise<never>((_, reject) => {
    cancel = after(seconds, () => {
      onLate();
      const message = 'Fabric Manager does not answer: read the partitions before trying again';
      reject(new FabricError('fm-unanswered', message));
    });
  });
  try {
    return await Promise.race([call, late]);
  } finally {
    cancel();
  }
}

function stuck(calls: number): FabricError {
  const message =
    `${calls} calls of Fabric Manager’s library have not returned, and no more are made: restart ` +
    'Fabric Manager, and this agent if they do not come back';
  return new FabricError('fm-unanswered', message);
}

function refusal(what: string, status: number): FabricError {
  const known = FM_STATUS[status];
  const text =
    known === undefined ? `status ${status}` : `${status} (${known.name}): ${known.advice}`;
  const code =
    status === -6 ? 'fm-version' : status === -5 || status === -9 ? 'fm-unanswered' : 'fm-refused';
  return new FabricError(code, `Fabric Manager, ${what}: ${text}`, { status });
}

/** Throws FabricError 'fm-out-of-bounds': a list that is cut could give a tenant more GPUs. */
export function readPartitions(list: Buffer): readonly Partition[] {
  const count = list.readUInt32LE(NVFM.list.count);
  if (count > PARTITIONS_MAX) throw beyond(`${count} partitions, at most ${PARTITIONS_MAX}`);
  const partitions = Array.from({ length: count }, (_, index): Partition => {
    const at = NVFM.list.partitions + index * NVFM.partition.bytes;
    const id = list.readUInt32LE(at + NVFM.partition.id);
    const active = list.readUInt32LE(at + NVFM.partition.isActive);
    const gpus = list.readUInt32LE(at + NVFM.partition.gpuCount);
    if (active > 1) throw beyond(`partition ${id} is active ${active}, neither 0 nor 1`);
    if (gpus < 1 || gpus > PARTITION_GPUS_MAX) {
      throw beyond(`partition ${id} has ${gpus} GPUs, 1 to ${PARTITION_GPUS_MAX} are possible`);
    }
    const members = Array.from({ length: gpus }, (_, gpu) => {
      const base = at + NVFM.partition.gpus + gpu * NVFM.gpu.bytes;
      return {
        module: list.readUInt32LE(base + NVFM.gpu.module),
        available: list.readUInt32LE(base + NVFM.gpu.linksAvailable),
        possible: list.readUInt32LE(base + NVFM.gpu.linksMax),
      };
    }).sort((a, b) => a.module - b.module);
    const modules = members.map(({ module }) => module);
    const isGood = modules.every((each) => each >= 1 && each <= PARTITION_GPUS_MAX);
    if (!isGood || new Set(modules).size !== gpus) {
      throw beyond(`partition ${id} has modules ${modules.join(', ')}`);
    }
    const links = members.map(({ available, possible }) => ({ available, possible }));
    return { id, isActive: active === 1, modules, links };
  });
  if (new Set(partitions.map(({ id }) => id)).size !== count) throw beyond('one id twice');
  return partitions.sort((a, b) => a.id - b.id);
}

function beyond(what: string): FabricError {
  return new FabricError('fm-out-of-bounds', `Fabric Manager lists ${what}: nothing is read of it`);
}
