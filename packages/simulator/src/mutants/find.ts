import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { NODE_FLAGS } from '../jobs.ts';
import type { MutantFound } from './child.ts';
import { FLEET_MUTANTS } from './fleet-mutants.ts';
import { FLEET_WITHOUT, NO_BUG } from './plant.ts';

/** So many seeds a process: what it costs to load the product is then a small part. */
const SEEDS_A_PROCESS = 20;

/** What is known of one mutant. */
export interface MutantRow {
  readonly name: string;
  /** The first that notices it; null: none of those that were run. */
  seed: number | null;
  invariant: string | null;
  what: string | null;
  /** That were run, up to the one that notices it. */
  seeds: number;
  processorSeconds: number;
}

export interface FindOptions {
  readonly jobs: number;
  /** No process is begun after it, by the host's clock. */
  readonly endsNs: number;
  readonly tell: (line: string) => void;
}

/**
 * Runs seeds `first` to `last` on the product with one bug each, until something is noticed. So
 * many processes share them; who has had the fewest seeds is next.
 */
export async function findMutants(
  names: readonly string[],
  first: number,
  last: number,
  { jobs, endsNs, tell }: FindOptions,
): Promise<readonly MutantRow[]> {
  const rows = names.map((name) => ({
    row: {
      name,
      seed: null,
      invariant: null,
      what: null,
      seeds: 0,
      processorSeconds: 0,
    } as MutantRow,
    next: first,
    /** Behind seeds that fail without the bug. */
    rests: [] as (readonly [number, number])[],
    running: 0,
  }));
  const without = new Map<string, Promise<boolean>>();
  /** A seed that fails without the bug shows nothing. */
  const failsAnyway = (name: string, seed: number): Promise<boolean> => {
    const isFleet = FLEET_MUTANTS.some((each) => each.name === name);
    const none = isFleet ? FLEET_WITHOUT : NO_BUG;
    const key = `${none} ${seed}`;
    const known =
      without.get(key) ??
      runMutant(none, seed, seed, endsNs).then(
        (found) => found.seed !== null,
        () => true,
      );
    without.set(key, known);
    return known;
  };
  const worker = async (): Promise<void> => {
    for (;;) {
      const open = rows.filter(
        ({ row, next, rests }) => row.seed === null && (next <= last || rests.length > 0),
      );
      if (open.length === 0 || HOST_CLOCK.nowNs() >= endsNs) return;
      const one = open.reduce((a, b) => (b.next < a.next ? b : a));
      const { row } = one;
      const next = [one.next, Math.min(last, one.next + SEEDS_A_PROCESS - 1)] as const;
      const rest = one.rests.shift();
      const [from, to] = rest ?? next;
      if (rest === undefined) one.next = to + 1;
      one.running += 1;
      const found = await runMutant(row.name, from, to, endsNs).catch((error: Error) => {
        tell(`${row.name}, seeds ${from} to ${to}: ${error.message.slice(-500)}`);
        return null;
      });
      const isBug =
        found === null || found.seed === null || !(await failsAnyway(row.name, found.seed));
      one.running -= 1;
      if (found === null) continue;
      if (!isBug) {
        // The others of its seeds are run by the next process.
        row.seeds += found.seeds;
        if (found.seed! < to) one.rests.push([found.seed! + 1, to]);
        continue;
      }
      row.processorSeconds =
        Math.round((row.processorSeconds + found.processorSeconds) * 100) / 100;
      if (found.seed === null) row.seeds += found.seeds;
      else if (row.seed === null || found.seed < row.seed) {
        row.seed = found.seed;
        row.invariant = found.invariant;
        row.what = found.what;
      }
      if (row.seed !== null) row.seeds = row.seed - first + 1;
      const isOver =
        one.running === 0 && (row.seed !== null || (one.next > last && one.rests.length === 0));
      if (isOver) {
        const outcome = row.seed === null ? 'not found' : `seed ${row.seed}, ${row.invariant}`;
        tell(`${row.name}: ${outcome}${row.what === null ? '' : `: ${row.what}`}`);
      }
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return rows.map(({ row }) => row);
}

/** What is still at its seeds so long after the end of the search is ended. */
const LATE_MS = 30_000;

/** Throws where the process did not end well: some bugs keep a simulation from ending. */
async function runMutant(
  name: string,
  first: number,
  last: number,
  endsNs: number,
): Promise<MutantFound> {
  const child = fileURLToPath(new URL('./child.js', import.meta.url));
  const args = [...NODE_FLAGS, child, name, String(first), String(last)];
  const leftMs = (endsNs - HOST_CLOCK.nowNs()) / 1e6 + LATE_MS;
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    maxBuffer: 2 ** 24,
    ...(Number.isFinite(leftMs) ? { timeout: Math.ceil(leftMs), killSignal: 'SIGKILL' } : {}),
  });
  return JSON.parse(stdout.trim().split('\n').at(-1)!) as MutantFound;
}
