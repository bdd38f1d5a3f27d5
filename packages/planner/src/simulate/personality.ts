import { createRequire } from 'node:module';
import type { HostMemoryKind } from '@bridgekeeper/bridge';
import { PlanError } from '../errors.ts';
import type { ModelTables } from '../models/tables.ts';
import { nearestNames } from '../nearest.ts';

/** Bytes of a crossing: a sum of what it has for each of these. */
export interface CrossingBytes {
  readonly fixed?: number;
  readonly rows?: number;
  readonly tokens?: number;
  /** For each row and block that it may have: whole rows of the block table. */
  readonly rowBlocks?: number;
  readonly newBlocks?: number;
  readonly maxRows?: number;
}

/** Who says so: the code at the commit named, arithmetic, or a published measurement. */
export type Basis = 'read' | 'inferred' | 'fitted';

export interface EngineCrossing {
  readonly name: string;
  /** Absent: one. Otherwise so many, or one for each of the model's tables of that kind. */
  readonly count?: number | Exclude<keyof ModelTables, 'linearLayers'>;
  readonly bytes: CrossingBytes;
  readonly memory: HostMemoryKind;
  /** Into a block of pinned memory that is allocated for it. */
  readonly allocates?: boolean;
  /** Behind the step's work, or on a stream with nothing else. */
  readonly stream: 'compute' | 'side';
  readonly when: 'step' | 'batch-changed' | 'admission' | 'finish' | 'growth';
  readonly basis: Basis;
}

interface HostTime {
  readonly fixed: number;
  readonly perRow: number;
}

/** Another engine, as far as it meets the bridge. All of `data/personalities.json` is these. */
export interface Personality {
  readonly name: string;
  readonly title: string;
  readonly source: string;
  /** Whether a step is launched before the results of the one before are looked at. */
  readonly runsAhead: boolean;
  readonly h2d: readonly EngineCrossing[];
  readonly d2h: readonly Pick<EngineCrossing, 'name' | 'bytes' | 'allocates' | 'basis'>[];
  /** Who makes the copies of results: the thread that launches, or one for it. */
  readonly readback: 'issuer' | 'helper';
  /** What the engine does otherwise once it knows that it is confidential. */
  readonly underCc?: {
    readonly memory: HostMemoryKind;
    readonly readback: Personality['readback'];
  };
  readonly launches: {
    /** Kernels outside of graphs, before and after the model's body. */
    readonly before: number;
    readonly after: number;
    readonly piecesPerLayer: number;
    /** Of a layer with recurrent attention, whose kernels are launched one by one. */
    readonly piecesPerLinearLayer: number;
    readonly eagerPerLayer: number;
    readonly basis: Basis;
  };
  /** Kernels of a layer beside products and attention. */
  readonly extraKernelsPerLayer: number;
  readonly host: {
    /** From the results of a step to the first copy of the next one. */
    readonly beforeNs: HostTime;
    /** From there to the launch. */
    readonly afterNs: HostTime;
    /** Beside the launch itself, of each piece that is launched by itself. */
    readonly pieceNs: number;
    readonly basis: Basis;
    readonly source: string;
  };
  readonly notes: readonly string[];
}

/** One as the data has it: what it is like, and in what it differs. */
type StoredPersonality = Partial<Personality> &
  Pick<Personality, 'name'> & {
    readonly extends?: string;
    readonly addedH2d?: readonly EngineCrossing[];
    readonly h2dOnlyWhen?: Readonly<Record<string, EngineCrossing['when']>>;
    readonly h2dStream?: EngineCrossing['stream'];
  };

const require = createRequire(import.meta.url);
let known: ReadonlyMap<string, Personality> | undefined;

function personalities(): ReadonlyMap<string, Personality> {
  if (known !== undefined) return known;
  const { personalities: stored } = require('../../data/personalities.json') as {
    personalities: readonly StoredPersonality[];
  };
  const resolved = new Map<string, Personality>();
  // One may only extend one above it.
  for (const entry of stored) resolved.set(entry.name, resolve(entry, resolved));
  known = resolved;
  return known;
}

/** Throws PlanError `unknown-engine` with the nearest names. */
export function personalityOf(name: string): Personality {
  const found = personalities().get(name);
  if (found !== undefined) return found;
  const near = nearestNames(name, [...personalities().keys()]).join(', ');
  throw new PlanError('unknown-engine', `--engine ${name}: is not known; nearest: ${near}`);
}

function resolve(
  { extends: like, addedH2d, h2dOnlyWhen, h2dStream, ...own }: StoredPersonality,
  earlier: ReadonlyMap<string, Personality>,
): Personality {
  const whole = { ...(like === undefined ? {} : earlier.get(like)!), ...own } as Personality;
  const h2d = [...whole.h2d, ...(addedH2d ?? [])].map((crossing) => {
    const when = h2dOnlyWhen?.[crossing.name] ?? crossing.when;
    return { ...crossing, when, stream: h2dStream ?? crossing.stream };
  });
  return { ...whole, h2d };
}
