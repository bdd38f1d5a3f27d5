import { type Clock, invariant } from '@bridgekeeper/bridge';
import { type Device, hash32 } from '@bridgekeeper/device';
import {
  type Engine,
  EngineError,
  type EngineOptions,
  type GenerationRequest,
  GREEDY,
} from '@bridgekeeper/engine';
import {
  type KvGroup,
  type OpenTiers,
  openTiers,
  type PreparedModel,
  pageKey,
  prepareModel,
  rootKey,
  runToEnd,
  startEngine,
  tiersRequest,
} from '@bridgekeeper/engine/measure';
import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import {
  configureEngine,
  engineOptions,
  flag,
  integer,
  lawName,
  MODEL_FLAG,
  measuredDevice,
  openDevice,
  readSealPolicy,
  SETTINGS,
  settingsWith,
  type Values,
} from '@bridgekeeper/server';
import { SEAL_FLAGS } from './seal.ts';
import type { Suite } from './suite.ts';

const FLAGS = {
  model: MODEL_FLAG,
  loadFormat: flag(SETTINGS.loadFormat.kind, 'auto', 'auto or dummy'),
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  law: flag(SETTINGS.law.kind, 'emulate:b300-cc', 'what restores are measured under, beside none'),
  depthLaw: flag(SETTINGS.law.kind, 'emulate:h100-cc', 'what the choice is measured under'),
  prefixTokens: flag(integer(2, 2 ** 20), 8192, 'tokens of the shared prefix'),
  suffixTokens: flag(integer(1, 2 ** 16), 64, 'tokens of each request behind it'),
  depths: flag(integer(0, 100), 10, 'depths at which restore and recompute are compared'),
  spanTokens: flag(integer(1, 2 ** 16), 512, 'tokens that are restored or recomputed there'),
  streams: flag(integer(0, 64), 4, 'others that decode while restores run'),
  streamTokens: flag(integer(1, 2 ** 16), 256, 'tokens that each of them decodes'),
  repeats: flag(integer(1, 100), 5, 'measurements of each'),
  ...SEAL_FLAGS,
};

type RestoreValues = Values<typeof FLAGS>;

/**
 * What a prefix costs that left the device: brought back in few crossings, brought back page by
 * page and layer by layer, and computed again; without a law and under one, on one device in one
 * run.
 */
export const KV_RESTORE_SUITE: Suite<typeof FLAGS> = {
  name: 'kv-restore',
  summary: 'time to the first token behind a prefix that is restored from the host, or recomputed',
  flags: FLAGS,
  async run(values, progress) {
    const runs: MeasuredRun[] = [];
    let device = measuredDevice(values.device, values.device);
    const under = async (law: string, measure: (bench: RestoreBench) => Promise<void>) => {
      const bench = await RestoreBench.open(values, law, (run) => {
        runs.push(run);
        progress(lineOf(run));
      });
      try {
        device = measuredDevice(bench.device.info.kind, bench.device.info.name);
        await measure(bench);
      } finally {
        await bench.close();
      }
    };
    await under('off', (bench) => bench.measurePrefix(['held', 'restored', 'recomputed', 'split']));
    await under(values.law, async (bench) => {
      await bench.measurePrefix(['held', 'restored', 'naive', 'recomputed', 'split']);
      if (values.streams > 0) await bench.measureOthers();
    });
    if (values.depths > 0) await under(values.depthLaw, (bench) => bench.measureDepths());
    return { device, runs };
  },
};

/**
 * How a request's prefix comes to be on the device. `split`: its front is computed while its back
 * is restored, so that both take equally long; it comes after both.
 */
type Way = 'held' | 'restored' | 'naive' | 'recomputed' | 'split';

const TENANT = 'bench';
/** Streams are compared in turns, since machines drift. */
const TURNS = 3;

function lineOf({ parameters, metrics }: MeasuredRun): string {
  const all = [...Object.entries(parameters), ...Object.entries(metrics)];
  return all.map(([name, value]) => `${name} ${value}`).join(', ');
}

function randomTokens(
  { spec: { vocabularySize } }: PreparedModel,
  number: number,
  count: number,
): Uint32Array {
  const at = (position: number) => (hash32(number, 91, position) >>> 0) % vocabularySize;
  return Uint32Array.from({ length: count }, (_, position) => at(position));
}

/** Of the prefix's pages, in order. */
function keysOf(prefix: Uint32Array, pageTokens: number): readonly string[] {
  const keys: string[] = [];
  for (let from = 0; from < prefix.length; from += pageTokens) {
    const parent = keys.at(-1) ?? rootKey(TENANT);
    keys.push(pageKey(parent, prefix.subarray(from, from + pageTokens)));
  }
  return keys;
}

/** Host memory for so many pages, all of it there. */
async function openHost(
  options: EngineOptions,
  { parts, traffic, sealRoot }: PreparedModel,
  pages: number,
  { groups, crossingBytes }: { groups?: readonly KvGroup[]; crossingBytes?: number },
): Promise<OpenTiers> {
  const request = tiersRequest(options, parts, traffic, sealRoot);
  invariant(request !== null, 'the engine was asked for tiers');
  const geometry = { ...request.geometry, groups: groups ?? request.geometry.groups };
  const limits = { ...request.limits, hostBytes: pages * geometry.pageBytes };
  const tiers = await openTiers({ ...request, geometry, limits, crossingBytes });
  await tiers.host.grow();
  return tiers;
}

/** An engine whose pages are moved by hand: what a prefix tree would decide is decided here. */
class RestoreBench {
  readonly device: Device;
  readonly #values: RestoreValues;
  readonly #law: string;
  readonly #model: PreparedModel;
  readonly #engine: Engine;
  readonly #options: EngineOptions;
  readonly #onRun: (run: MeasuredRun) => void;
  readonly #clock: Clock;
  readonly #prefix: Uint32Array;
  /** Of the prefix's pages, in order. */
  readonly #keys: readonly string[];
  readonly #tiers: OpenTiers;
  #requests = 0;

  private constructor(
    values: RestoreValues,
    law: string,
    parts: { model: PreparedModel; engine: Engine; options: EngineOptions; tiers: OpenTiers },
    prefix: Uint32Array,
    onRun: (run: MeasuredRun) => void,
  ) {
    const { model, engine, options, tiers } = parts;
    this.device = options.device;
    this.#values = values;
    this.#law = law;
    this.#model = model;
    this.#engine = engine;
    this.#options = options;
    this.#tiers = tiers;
    this.#onRun = onRun;
    this.#clock = options.device.clock;
    this.#prefix = prefix;
    this.#keys = keysOf(prefix, model.shape.pageTokens);
  }

  static async open(
    values: RestoreValues,
    law: string,
    onRun: (run: MeasuredRun) => void,
  ): Promise<RestoreBench> {
    const { model: path, loadFormat, device: kind, prefixTokens, suffixTokens } = values;
    const { streams, streamTokens } = values;
    const settings = settingsWith({
      model: path,
      loadFormat,
      device: kind,
      law,
      maxNumSeqs: streams + 2,
      maxModelLen: prefixTokens + suffixTokens + Math.max(streamTokens, 16),
    });
    const config = configureEngine(settings, await readSealPolicy(values));
    const device = await openDevice(config);
    try {
      // For staging; the stores are opened below, where the size of a page is known.
      const none = { hostBytes: 0, disk: null, spillLaneShare: 1 };
      const options = { ...engineOptions(config, device), tiers: none };
      const model = await prepareModel(options);
      runToEnd(model.runner.refine());
      const engine = await startEngine(options, model);
      const { pageTokens } = model.shape;
      const pages = Math.floor(prefixTokens / pageTokens);
      const prefix = randomTokens(model, 0, pages * pageTokens);
      const tiers = await openHost(options, model, pages, {});
      const parts = { model, engine, options, tiers };
      const bench = new RestoreBench(values, lawName(config.law.value), parts, prefix, onRun);
      await bench.#fill();
      return bench;
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#tiers.close();
    await this.#engine.shutdown(0);
  }

  /** Tokens that no other call gave. */
  #tokens(count: number): Uint32Array {
    this.#requests += 1;
    return randomTokens(this.#model, this.#requests, count);
  }

  #request(promptTokens: Uint32Array, maxTokens: number): GenerationRequest {
    const sampling = { ...GREEDY, maxTokens };
    return { id: `${this.#requests++}`, tenant: TENANT, promptTokens, sampling };
  }

  /** Submits a request; resolves at its end with what it brought and when its first token came. */
  #ask(request: GenerationRequest) {
    return new Promise<{ firstNs: number; tokens: number[]; cachedTokens: number }>(
      (resolve, reject) => {
        let firstNs = 0;
        const tokens: number[] = [];
        this.#engine.submit(request, (event) => {
          if (firstNs === 0 && event.tokens.length > 0) firstNs = this.#clock.nowNs();
          tokens.push(...event.tokens);
          const { finish } = event;
          if (finish === undefined) return;
          if (finish.reason === 'error') {
            reject(new EngineError('engine-failed', finish.message ?? 'the request failed'));
          } else {
            resolve({ firstNs, tokens, cachedTokens: finish.cachedTokens });
          }
        });
      },
    );
  }

  /** Computes the prefix and brings its pages to host memory, each to the slot of its number. */
  async #fill(): Promise<void> {
    await this.#ask(this.#request(this.#behind(this.#prefix, this.#tokens(1)), 1));
    const { pool } = this.#model;
    const pages = this.#keys.map((key) => {
      const page = pool.find(key);
      invariant(page !== undefined, 'a prefix that was just computed is cached');
      return page;
    });
    await this.#spill(this.#tiers, pages);
    for (const page of pages) pool.release(page);
  }

  async #spill({ mover }: OpenTiers, pages: readonly number[]): Promise<void> {
    const moves = pages.flatMap((page, slot) =>
      mover.groups.map((_, group) => ({ group, slot, page, key: this.#keys[slot]! })),
    );
    moves.sort((a, b) => a.group - b.group);
    for (let taken = 0; taken < moves.length; ) {
      taken += mover.spill({ tenant: TENANT, moves: moves.slice(taken) });
      mover.queueMoves();
      await mover.idle();
    }
    for (const settled of mover.settled()) {
      invariant(settled.kind === 'spilled', 'host memory was large enough');
    }
  }

  /**
   * Brings pages [first, end) of the prefix back, and makes them findable. Returns the time of the
   * lane that was expected.
   */
  async #restore({ mover }: OpenTiers, first: number, end: number): Promise<number> {
    const { pool } = this.#model;
    const numbers = Array.from({ length: end - first }, (_, i) => first + i);
    if (numbers.length === 0) return 0;
    const pages = numbers.map(() => pool.take());
    const moves = numbers.flatMap((slot, i) =>
      mover.groups.map((_, group) => ({ group, slot, page: pages[i]!, key: this.#keys[slot]! })),
    );
    moves.sort((a, b) => a.group - b.group);
    const id = mover.restore({ tenant: TENANT, moves, from: 'host' });
    const { restoreNs } = mover.queue();
    mover.queueMoves();
    await mover.whenSettled();
    const [settled] = mover.settled();
    invariant(settled?.kind === 'restored' && settled.id === id, 'the only restore has come');
    numbers.forEach((number, i) => {
      pool.publish(pages[i]!, this.#keys[number]!);
      pool.release(pages[i]!);
    });
    return restoreNs;
  }

  /** Nothing is on the device but what is computed or brought there from now on. */
  #forget(): void {
    this.#model.pool.forgetCached();
  }

  #behind(prefix: Uint32Array, suffix: Uint32Array): Uint32Array {
    const tokens = new Uint32Array(prefix.length + suffix.length);
    tokens.set(prefix);
    tokens.set(suffix, prefix.length);
    return tokens;
  }

  /** Time to the first token behind the whole prefix, by each way that it may come. */
  async measurePrefix(ways: readonly Way[]): Promise<void> {
    const naive = ways.includes('naive') ? await this.#openNaive() : null;
    const pages = this.#keys.length;
    const suffixes = Array.from({ length: this.#values.repeats }, () =>
      this.#tokens(this.#values.suffixTokens),
    );
    const answers = new Map<number, string>();
    const ttftMs = new Map<Way, number>();
    for (const way of ways) {
      const measured: MeasuredRun['metrics'][] = [];
      // The first of each kind is not counted: kernels and memory are touched for the first time.
      for (const [i, suffix] of [this.#tokens(this.#values.suffixTokens), ...suffixes].entries()) {
        this.#forget();
        if (way === 'held') await this.#restore(this.#tiers, 0, pages);
        const startedNs = this.#clock.nowNs();
        let expectedNs = 0;
        if (way === 'restored') expectedNs = await this.#restore(this.#tiers, 0, pages);
        if (way === 'naive') expectedNs = await this.#restore(naive!, 0, pages);
        if (way === 'split') {
          const [restored, recomputed] = [ttftMs.get('restored')!, ttftMs.get('recomputed')!];
          const front = Math.round((pages * restored) / (restored + recomputed));
          expectedNs = await this.#split(Math.max(1, Math.min(pages - 1, front)));
        }
        const restoredNs = this.#clock.nowNs();
        const request = this.#request(this.#behind(this.#prefix, suffix), 8);
        const { firstNs, tokens, cachedTokens } = await this.#ask(request);
        const isCached = way !== 'recomputed';
        invariant(cachedTokens === (isCached ? this.#prefix.length : 0), 'the prefix is there');
        if (i === 0) continue;
        const known = answers.get(i) ?? tokens.join();
        answers.set(i, known);
        measured.push({
          ttftMs: (firstNs - startedNs) / 1e6,
          restoreMs: (restoredNs - startedNs) / 1e6,
          expectedMs: expectedNs / 1e6,
          equalTokens: known === tokens.join() ? 1 : 0,
        });
      }
      const run = summarise({ ...this.#parameters(), way }, measured);
      ttftMs.set(way, run.metrics.ttftMs!);
      this.#onRun(run);
    }
    await naive?.close();
  }

  /** Computes the first pages while the others are restored; returns what the lane should take. */
  async #split(front: number): Promise<number> {
    const { pageTokens } = this.#model.shape;
    const prompt = this.#prefix.slice(0, front * pageTokens + 1);
    const restored = this.#restore(this.#tiers, front, this.#keys.length);
    await this.#ask(this.#request(prompt, 1));
    return restored;
  }

  #parameters(): MeasuredRun['parameters'] {
    const { model, suffixTokens } = this.#values;
    const prefixTokens = this.#prefix.length;
    const law = this.#law;
    return { model: model.split('/').at(-1)!, law, prefixTokens, suffixTokens };
  }

  /** As engines move pages without staging: each layer of each page crosses alone. */
  async #openNaive(): Promise<OpenTiers> {
    const groups = Array.from({ length: this.#model.spec.layers }, (_, layer) => ({
      layers: [layer],
      windowTokens: 0,
    }));
    const naive = await openHost(this.#options, this.#model, this.#keys.length, {
      groups,
      crossingBytes: 1,
    });
    await this.#restore(this.#tiers, 0, this.#keys.length);
    const { pool } = this.#model;
    const pages = this.#keys.map((key) => pool.find(key)!);
    await this.#spill(naive, pages);
    for (const page of pages) pool.release(page);
    return naive;
  }

  /** What others that decode lose while one restore follows the other. */
  async measureOthers(): Promise<void> {
    const { streams, streamTokens } = this.#values;
    const decode = async () => {
      const startedNs = this.#clock.nowNs();
      const all = Array.from({ length: streams }, () =>
        this.#ask(this.#request(this.#tokens(16), streamTokens)),
      );
      const firsts = await Promise.all(all);
      // From when all of them decode.
      const fromNs = Math.max(startedNs, ...firsts.map(({ firstNs }) => firstNs));
      return (streams * streamTokens * 1e9) / (this.#clock.nowNs() - fromNs);
    };
    await decode();
    const measured: MeasuredRun['metrics'][] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      this.#forget();
      const alone = await decode();
      let isOver = false;
      const streaming = decode().finally(() => {
        isOver = true;
      });
      let restored = 0;
      while (!isOver) {
        this.#forget();
        await this.#restore(this.#tiers, 0, this.#keys.length);
        restored += 1;
      }
      const beside = await streaming;
      measured.push({
        tokensPerSecondAlone: alone,
        tokensPerSecondBeside: beside,
        lostFraction: 1 - beside / alone,
        restores: restored,
      });
    }
    this.#onRun(summarise({ ...this.#parameters(), way: 'others', streams }, measured));
  }

  /**
   * A span behind prefixes of ten lengths, restored and recomputed; and which of both the price
   * says is less, from the lane's price and the rate at which the first and the last span were
   * computed.
   */
  async measureDepths(): Promise<void> {
    const { depths, spanTokens, suffixTokens, repeats } = this.#values;
    const { pageTokens } = this.#model.shape;
    const spanPages = Math.min(this.#keys.length, Math.max(1, Math.floor(spanTokens / pageTokens)));
    const last = this.#keys.length - spanPages;
    const starts = Array.from({ length: depths }, (_, i) =>
      depths === 1 ? last : Math.round((last * i) / (depths - 1)),
    );
    const time = async (way: 'restored' | 'recomputed', first: number) => {
      this.#forget();
      await this.#restore(this.#tiers, 0, first);
      const startedNs = this.#clock.nowNs();
      if (way === 'restored') await this.#restore(this.#tiers, first, first + spanPages);
      const prefix = this.#prefix.subarray(0, (first + spanPages) * pageTokens);
      const request = this.#request(this.#behind(prefix, this.#tokens(suffixTokens)), 1);
      const { firstNs } = await this.#ask(request);
      return (firstNs - startedNs) / 1e6;
    };
    const median = async (way: 'restored' | 'recomputed', first: number) => {
      await time(way, first);
      const times: number[] = [];
      for (let i = 0; i < repeats; i++) times.push(await time(way, first));
      return times.sort((a, b) => a - b)[Math.floor(repeats / 2)]!;
    };
    const measured: { first: number; restoredMs: number; recomputedMs: number }[] = [];
    for (const first of starts) {
      const restoredMs = await median('restored', first);
      const recomputedMs = await median('recomputed', first);
      measured.push({ first, restoredMs, recomputedMs });
    }
    // What of a recomputed span is not its suffix: known from where it is held.
    const ends = [measured[0]!, measured.at(-1)!];
    this.#forget();
    const laneMs = (await this.#restore(this.#tiers, 0, spanPages)) / 1e6;
    const saved = ends.map(({ restoredMs, recomputedMs }) => recomputedMs - (restoredMs - laneMs));
    for (const { first, restoredMs, recomputedMs } of measured) {
      const part = last === 0 ? 0 : first / last;
      const computeMs = saved[0]! + (saved[1]! - saved[0]!) * part;
      const isRestored = laneMs < computeMs;
      const chosenMs = isRestored ? restoredMs : recomputedMs;
      const bestMs = Math.min(restoredMs, recomputedMs);
      const metrics = {
        restoredMs,
        recomputedMs,
        laneMs,
        computeMs,
        choosesRestore: isRestored ? 1 : 0,
        chosenOverBest: chosenMs / bestMs,
      };
      const depthTokens = first * pageTokens;
      const spanTokens = spanPages * pageTokens;
      const way = 'depth';
      const parameters = { ...this.#parameters(), way, depthTokens, spanTokens };
      this.#onRun({ parameters, metrics, repeats, spread: {} });
    }
  }
}
