import type { LedgerSnapshot } from '@bridgekeeper/bridge';
import { type Device, DeviceError, slice } from '@bridgekeeper/device';
import type { Traffic } from '@bridgekeeper/engine';
import {
  type Checkpoint,
  type FillReport,
  type LoadedTensors,
  type LoadingStrategy,
  type LoadOptions,
  type LoadProgress,
  loadRank,
  loadVerbatim,
  openCheckpoint,
  type ReaderPool,
} from '@bridgekeeper/engine/loader';
import {
  ModelError,
  type ModelFiles,
  type ModelSpec,
  type Rank,
  readModelSpec,
} from '@bridgekeeper/engine/models';
import { openModel, type SealPolicy } from '@bridgekeeper/engine/seal';
import { type CheckedContents, checkContents } from './check-contents.ts';

export interface LoadRequest {
  readonly model: string;
  readonly device: Device;
  /** What everything crosses by. */
  readonly traffic: Traffic;
  readonly strategy: LoadingStrategy;
  /** Reading threads, started before the device was opened. */
  readonly readers: ReaderPool;
  readonly race: { readonly contextsMax: number } | null;
  readonly stagingBytes: number | undefined;
  /** null: the whole model. */
  readonly rank: Rank | null;
  readonly seal: SealPolicy;
  /** Compares what arrived with the files afterwards. */
  readonly check: boolean;
  readonly onProgress: (progress: LoadProgress) => void;
}

/** One load, from opening the files to the last byte in its place. */
export interface LoadOutcome {
  /** null: no architecture that is known; every tensor lies on the device as stored. */
  readonly architecture: string | null;
  readonly files: number;
  readonly tensors: number;
  readonly fileBytes: number;
  readonly deviceBytes: number;
  readonly report: FillReport;
  /** Opening files and reading headers. */
  readonly openSeconds: number;
  /** All of it but what was measured and checked afterwards. */
  readonly totalSeconds: number;
  /** Everything that crossed for it. */
  readonly crossed: LedgerSnapshot;
  /** What a copy from pinned memory reaches on this machine, measured right afterwards. */
  readonly pinnedBytesPerSecond: number;
  readonly sealRoot: string | null;
  readonly checked: CheckedContents | null;
}

/** Loads a model, times it, and leaves nothing on the device. Throws ModelError, DeviceError. */
export async function runLoad(request: LoadRequest): Promise<LoadOutcome> {
  const { device, traffic, model, strategy } = request;
  const { clock } = device;
  const startedNs = clock.nowNs();
  traffic.reserve(strategy.contexts);
  const { seal, files } = await openModel(model, request.seal);
  const source = await openCheckpoint(model, seal);
  try {
    const spec = await specOf(files);
    const openedNs = clock.nowNs();
    let measuringNs = 0;
    let crossed = traffic.snapshot();
    const loaded = await load(request, spec, source, () => {
      measuringNs = clock.nowNs();
      crossed = traffic.snapshot();
    });
    const endedNs = measuringNs;
    try {
      const { report, parts, bytes } = loaded;
      return {
        architecture: spec?.architecture ?? null,
        files: source.files.length,
        tensors: parts.length,
        fileBytes: source.files.reduce((total, file) => total + file.bytes, 0),
        deviceBytes: bytes,
        report,
        openSeconds: (openedNs - startedNs) / 1e9,
        totalSeconds: (endedNs - startedNs) / 1e9,
        crossed,
        pinnedBytesPerSecond: await pinnedRate(device, traffic),
        sealRoot: seal?.seal.root ?? null,
        checked: await check(request, source, loaded),
      };
    } finally {
      for (const buffer of loaded.buffers) device.free(buffer);
    }
  } finally {
    await source.close();
    await traffic.closeReserved();
  }
}

async function load(
  request: LoadRequest,
  spec: ModelSpec | null,
  source: Checkpoint,
  onFilled: () => void,
): Promise<LoadedTensors> {
  const { device, traffic, strategy, readers, race, rank, stagingBytes, onProgress } = request;
  const options: LoadOptions & { source: Checkpoint } = {
    device,
    traffic,
    readers,
    strategy,
    race,
    stagingBytes,
    onProgress,
    source,
    measureStages: true,
    onFilled,
  };
  if (spec !== null)
    return loadRank({ ...options, spec }, rank ?? { index: 0, of: 1, wholeExperts: false });
  if (rank === null) return loadVerbatim(options);
  const message = 'only a model whose architecture is known can be divided by rank';
  throw new ModelError('unsupported', message);
}

/** What has no architecture here is still loaded, as it is stored. */
async function specOf(files: ModelFiles): Promise<ModelSpec | null> {
  try {
    return await readModelSpec(files);
  } catch (error) {
    const isForeign =
      error instanceof ModelError && ['unsupported', 'missing-file'].includes(error.code);
    if (isForeign) return null;
    throw error;
  }
}

async function check(
  { traffic, device, check: isAsked, seal }: LoadRequest,
  source: Checkpoint,
  { parts, buffers }: LoadedTensors,
): Promise<CheckedContents | null> {
  if (!isAsked) return null;
  if (seal.userKey !== undefined && source.seal?.encryption != null) return null;
  return checkContents({ device, traffic, checkpoint: source, parts, buffers });
}

const PINNED_BYTES = 64 * 1024 ** 2;
const PINNED_COPIES = 16;

/** Copies one after the other on an idle stream, as many in flight as the machine takes. */
async function pinnedRate(device: Device, traffic: Traffic): Promise<number> {
  const bytes = device.info.kind === 'cuda' ? PINNED_BYTES : PINNED_BYTES / 16;
  const target = device.allocate(bytes, 'pinned rate');
  const host = device.allocateHost(bytes, 'pinned', 'pinned rate');
  const stream = device.createStream('pinned rate');
  const copy = () =>
    traffic.launching.cross({
      direction: 'h2d',
      device: slice(target),
      host,
      hostOffsetBytes: 0,
      stream,
      purpose: 'probe',
      tenant: 'probe',
    });
  try {
    await copy();
    const startedNs = device.clock.nowNs();
    await Promise.all(Array.from({ length: PINNED_COPIES }, copy));
    return (PINNED_COPIES * bytes * 1e9) / (device.clock.nowNs() - startedNs);
  } catch (error) {
    if (error instanceof DeviceError) return 0;
    throw error;
  } finally {
    device.freeHost(host);
    device.free(target);
  }
}
