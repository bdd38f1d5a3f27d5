import { statfsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import type { Profile } from '@bridgekeeper/bridge';
import type { DeviceKind } from '@bridgekeeper/device';
import { deriveStrategy, type LoadingStrategy } from '@bridgekeeper/engine/loader';
import type { Decision } from './decision.ts';
import { loadingPath, readLoadingStrategy } from './loading-store.ts';

/** How weights will be brought over, and whether other ways should be tried on the way. */
export interface LoadingDecision extends Decision<LoadingStrategy> {
  readonly race: { readonly contextsMax: number } | null;
  /** Where the winner of a race is kept; null: nowhere. */
  readonly store: { readonly path: string; readonly key: string } | null;
}

const TMPFS_MAGIC = 0x01021994;
/** Enough to see whether more contexts help. */
const RACE_CONTEXTS = 4;

/** What the choice depends on. */
export interface LoadingSituation {
  readonly model: string;
  readonly deviceKind: DeviceKind;
  /** That is imposed; null: none. */
  readonly law: Profile | null;
  readonly bridge: Profile | null;
  readonly gpuUuid: string | null;
  /** GPUs that are loaded side by side. */
  readonly gpus: number;
}

/** The strategy that won on this machine before, else what the bridge's profile says is best. */
export function chooseLoading(situation: LoadingSituation): LoadingDecision {
  const { model, deviceKind, law, bridge, gpuUuid, gpus } = situation;
  const isImposed = law !== null;
  const cores = availableParallelism();
  const derived = deriveStrategy({ deviceKind, profile: bridge, isImposed, cores, gpus });
  const reason = `derived from ${bridge?.name ?? 'no bridge'}`;
  if (deviceKind !== 'cuda' || gpuUuid === null) {
    return { value: derived, reason, race: null, store: null };
  }
  // A bridge that is imposed is not the one of that name that is there.
  const behind = law === null ? (bridge?.name ?? 'off') : `law ${law.name}`;
  const store = { path: loadingPath(gpuUuid), key: `${behind} ${storageOf(model)}` };
  const kept = readLoadingStrategy(store.path, store.key);
  if (kept !== undefined && (law === null || kept.crossedBy === 'lanes')) {
    return { value: kept, reason: `won on this machine: ${store.path}`, race: null, store };
  }
  const allowed = (bridge?.contexts.max ?? 1) - 1;
  const race = { contextsMax: Math.max(0, Math.min(RACE_CONTEXTS, allowed)) };
  return { value: derived, reason, race, store };
}

function storageOf(folder: string): string {
  try {
    return statfsSync(folder).type === TMPFS_MAGIC ? 'tmpfs' : 'disk';
  } catch {
    return 'disk';
  }
}
