import type { Clock } from '@bridgekeeper/bridge';
import { CROSSING, CROSSING_FIELDS, LAUNCH_FIELDS, type LiveBatch } from './batch.ts';
import type { LiveSource } from './source.ts';

/**
 * What the engine did in a tenth of a second. Times are whole microseconds of the device's clock;
 * within `crossings` and `launches` they count back from `now_us`, so that numbers are short.
 */
export interface LiveMoment {
  /** Counts up by one from moment to moment: a gap says that some were missed. */
  readonly seq: number;
  readonly now_us: number;
  /** The same moment by the server's clock, as `arrived_us` of requests is. */
  readonly server_us: number;
  readonly lanes: readonly string[];
  readonly crossings: readonly LiveCrossing[];
  readonly launches: readonly LiveLaunch[];
  /** What was too much to be kept, and is in neither. */
  readonly dropped: number;
}

/**
 * Index in `lanes`; index in the ledger's accounts (purpose, then direction); when it began, before
 * `now_us`; how long it took; of that the toll; how long its issuer stood still; bytes; how many
 * crossings these are, where a crowd of small ones is drawn as one.
 */
export type LiveCrossing = readonly [
  lane: number,
  account: number,
  ago: number,
  us: number,
  toll: number,
  blocked: number,
  bytes: number,
  count: number,
];

/** When it began, before `now_us`; how long it took; decode steps, rows, tokens of prompts. */
export type LiveLaunch = readonly [
  ago: number,
  us: number,
  steps: number,
  rows: number,
  promptTokens: number,
];

/** What is kept for those who come, or were away. */
const WINDOW_US = 10e6;
/** Of one moment: more are joined with their neighbours. */
const CROSSINGS_SHOWN = 2_000;
/** Neighbours in a crowd are closer than this. */
const JOINED_WITHIN_US = 1_000;
/** Watching goes on for so long after the last look: a page loaded again finds its past. */
const LINGER_SECONDS = 15;

export interface FeedClock extends Clock {
  after(seconds: number, action: () => void): () => void;
}

/** The last seconds of what an engine did, for any number of readers. Watches only for them. */
export class LiveFeed {
  readonly #source: LiveSource;
  readonly #clock: FeedClock;
  readonly #listeners = new Set<(moment: LiveMoment) => void>();
  #moments: LiveMoment[] = [];
  #seq = 0;
  #unwatch: (() => void) | undefined;
  #cancelLinger: (() => void) | undefined;

  constructor(source: LiveSource, clock: FeedClock) {
    this.#source = source;
    this.#clock = clock;
  }

  get readers(): number {
    return this.#listeners.size;
  }

  /** Those of the last ten seconds, oldest first. Begins to watch, for a while. */
  recent(): readonly LiveMoment[] {
    this.#watch();
    if (this.#listeners.size === 0) this.#linger();
    return this.#moments;
  }

  /** Tells of each moment until what it returns is called. */
  subscribe(listener: (moment: LiveMoment) => void): () => void {
    this.#watch();
    this.#cancelLinger?.();
    this.#listeners.add(listener);
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#linger();
    };
  }

  close(): void {
    this.#cancelLinger?.();
    this.#unwatch?.();
    this.#unwatch = undefined;
    this.#listeners.clear();
  }

  #watch(): void {
    this.#unwatch ??= this.#source.watch((batch) => this.#take(batch));
  }

  #linger(): void {
    this.#cancelLinger?.();
    this.#cancelLinger = this.#clock.after(LINGER_SECONDS, () => {
      this.#unwatch?.();
      this.#unwatch = undefined;
      // What comes later does not join on to this.
      this.#moments = [];
    });
  }

  #take(batch: LiveBatch): void {
    this.#seq += 1;
    const moment = momentOf(batch, this.#seq, this.#clock.nowNs());
    const oldest = moment.now_us - WINDOW_US;
    this.#moments = [...this.#moments.filter(({ now_us }) => now_us >= oldest), moment];
    for (const listener of this.#listeners) listener(moment);
  }
}

/** As it is sent. */
export function momentOf(batch: LiveBatch, seq: number, serverNs: number): LiveMoment {
  const { nowNs, lanes, launches, dropped } = batch;
  const all = crossingsOf(batch);
  return {
    seq,
    now_us: us(nowNs),
    server_us: us(serverNs),
    lanes,
    crossings: all.length <= CROSSINGS_SHOWN ? all : joined(all),
    launches: rowsOf(launches, LAUNCH_FIELDS, ([startedNs, doneNs, steps, rows, promptTokens]) => [
      us(nowNs - startedNs!),
      us(doneNs! - startedNs!),
      steps!,
      rows!,
      promptTokens!,
    ]),
    dropped,
  };
}

const us = (ns: number) => Math.round(ns / 1000);

function crossingsOf({ nowNs, crossings }: LiveBatch): LiveCrossing[] {
  return rowsOf(crossings, CROSSING_FIELDS, (row) => {
    const startedNs = row[CROSSING.startedNs]!;
    return [
      row[CROSSING.lane]!,
      row[CROSSING.account]!,
      us(nowNs - startedNs),
      us(row[CROSSING.completedNs]! - startedNs),
      us(row[CROSSING.tollNs]!),
      us(row[CROSSING.blockedNs]!),
      row[CROSSING.bytes]!,
      1,
    ];
  });
}

function rowsOf<T>(values: Float64Array, fields: number, row: (values: Float64Array) => T): T[] {
  return Array.from({ length: values.length / fields }, (_, index) =>
    row(values.subarray(index * fields, (index + 1) * fields)),
  );
}

/** Neighbours of one lane and account as one: sums are kept, and so is where each crowd lies. */
function joined(crossings: readonly LiveCrossing[]): LiveCrossing[] {
  const crowds: LiveCrossing[] = [];
  const last = new Map<number, number>();
  for (const crossing of crossings) {
    const [lane, account, ago, length, toll, blocked, bytes, count] = crossing;
    const at = last.get(lane);
    const crowd = at === undefined ? undefined : crowds[at]!;
    const isNear =
      crowd !== undefined && crowd[1] === account && crowd[2] - crowd[3] - ago < JOINED_WITHIN_US;
    if (!isNear) {
      last.set(lane, crowds.push(crossing) - 1);
      continue;
    }
    const end = Math.min(crowd[2] - crowd[3], ago - length);
    crowds[at!] = [
      lane,
      account,
      crowd[2],
      crowd[2] - end,
      crowd[4] + toll,
      crowd[5] + blocked,
      crowd[6] + bytes,
      crowd[7] + count,
    ];
  }
  return crowds;
}
