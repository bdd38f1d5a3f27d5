import { type Clock, invariant } from '@bridgekeeper/bridge';
import { type Device, hash32 } from '@bridgekeeper/device';
import {
  type Engine,
  EngineError,
  type EngineOptions,
  type GenerationRequest,
  GREEDY,
  type TierPolicyName,
} from '@bridgekeeper/engine';
import {
  type KvPrices,
  kvBytesPerToken,
  kvPools,
  openTiers,
  type PreparedModel,
  pieceBytesOf,
  prepareModel,
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
  listOf,
  MODEL_FLAG,
  measuredDevice,
  oneOf,
  openDevice,
  readSealPolicy,
  SETTINGS,
  settingsWith,
  type Values,
} from '@bridgekeeper/server';
import { SEAL_FLAGS } from './seal.ts';
import type { Suite } from './suite.ts';

const PARTS = ['prefix', 'naive', 'streams', 'depths', 'single'] as const;
type Part = (typeof PARTS)[number];

const FLAGS = {
  model: MODEL_FLAG,
  loadFormat: flag(SETTINGS.loadFormat.kind, 'auto', 'auto or dummy'),
  device: flag(SETTINGS.device.kind, 'auto', 'where the model runs'),
  law: flag(SETTINGS.law.kind, 'emulate:b300-cc', 'what restores are measured under, beside none'),
  depthLaw: flag(SETTINGS.law.kind, 'emulate:h100-cc', 'what the choice is measured under'),
  parts: flag(listOf('PARTS', oneOf(...PARTS)), PARTS, 'what is measured'),
  prefixTokens: flag(integer(2, 2 ** 20), 8192, 'tokens of the shared prefix'),
  suffixTokens: flag(integer(1, 2 ** 16), 64, 'tokens of each request behind it'),
  depths: flag(integer(1, 100), 10, 'depths at which restore and recompute are compared'),
  spanTokens: flag(integer(1, 2 ** 16), 512, 'tokens that are restored or recomputed there'),
  streams: flag(integer(1, 64), 4, 'others that decode while restores run'),
  streamTokens: flag(integer(1, 2 ** 16), 256, 'tokens that each of them decodes'),
  singlePrompts: flag(integer(1, 4096), 8, 'prompts of that length that never come again'),
  repeats: flag(integer(1, 100), 5, 'measurements of each'),
  ...SEAL_FLAGS,
};

type RestoreValues = Values<typeof FLAGS>;

/**
 * What a prefix costs that left the device: brought back in few crossings, brought back page by
 * page and layer by layer, computed again, or as the engine chooses; without a law and under one,
 * on one device in one run.
 */
export const KV_RESTORE_SUITE: Suite<typeof FLAGS> = {
  name: 'kv-restore',
  summary: 'time to the first token behind a prefix that is restored from the host, or recomputed',
  flags: FLAGS,
  async run(values, progress) {
    const runs: MeasuredRun[] = [];
    let device = measuredDevice(values.device, values.device);
    const under = async (way: Setting, measure: (bench: RestoreBench) => Promise<void>) => {
      const onRun = (run: MeasuredRun) => {
        runs.push(run);
        progress(lineOf(run));
      };
      const bench = await RestoreBench.open(values, way, onRun, progress);
      try {
        device = measuredDevice(bench.device.info.kind, bench.device.info.name);
        await measure(bench);
      } finally {
        await bench.close();
      }
    };
    const { law, depthLaw } = values;
    const wants = (...parts: Part[]) => parts.some((part) => values.parts.includes(part));
    if (wants('prefix')) {
      await under({ law: 'off', policy: 'write-through' }, (bench) => bench.measurePrefix());
    }
    if (wants('prefix', 'naive', 'streams')) {
      await under({ law, policy: 'write-through' }, async (bench) => {
        if (wants('prefix')) await bench.measurePrefix();
        if (wants('naive')) await bench.measureNaive();
        if (wants('streams')) await bench.measureOthers();
      });
    }
    if (wants('depths')) {
      await under({ law: depthLaw, policy: 'write-through' }, (bench) => bench.measureDepths());
    }
    for (const each of wants('single') ? ['off', law] : []) {
      await under({ law: each, policy: 'priced' }, async (bench) => {
        await bench.measureSingles();
        await bench.measureChurn();
      });
    }
    return { device, runs };
  },
};

interface Setting {
  readonly law: string;
  readonly policy: TierPolicyName;
}

/** How a request's prefix comes to be on the device; `chosen`: as the engine finds best. */
type Way = 'held' | 'restored' | 'recomputed' | 'chosen';

const TENANT = 'bench';
/** Streams are compared in turns, since machines drift. */
const TURNS = 3;
const OUTPUT_TOKENS = 8;
const LEARNING_USES = 8;
/** No request of these takes a tenth of it. */
const STALLED_NS = 40e9;
const LOOK_NS = 1e9;

function lineOf({ parameters, metrics }: MeasuredRun): string {
  const all = [...Object.entries(parameters), ...Object.entries(metrics)];
  return all.map(([name, value]) => `${name} ${value}`).join(', ');
}

/** What pages are believed to cost, so that the engine goes the way that is measured. */
class Belief {
  way: Way = 'chosen';

  readonly over = (known: KvPrices): KvPrices => ({
    recomputeNs: (index) => (this.way === 'restored' ? 1e12 : known.recomputeNs(index)),
    launchNs: () => known.launchNs(),
    writeNs: (tier, part) => known.writeNs(tier, part),
    readNs: (tier, part) => (this.way === 'recomputed' ? 1e12 : known.readNs(tier, part)),
  });
}

/**
 * An engine whose prompts go to host memory as soon as they are computed (`write-through`), so that
 * the device can be made to forget them whenever that is to be measured.
 */
class RestoreBench {
  readonly device: Device;
  readonly #values: RestoreValues;
  readonly #law: string;
  readonly #model: PreparedModel;
  readonly #engine: Engine;
  readonly #options: EngineOptions;
  readonly #belief: Belief;
  readonly #onRun: (run: MeasuredRun) => void;
  readonly #onStall: (message: string) => void;
  readonly #clock: Clock;
  readonly #prefix: Uint32Array;
  #requests = 0;

  private constructor(
    values: RestoreValues,
    law: string,
    parts: { model: PreparedModel; engine: Engine; options: EngineOptions; belief: Belief },
    onRun: (run: MeasuredRun) => void,
    onStall: (message: string) => void,
  ) {
    const { model, engine, options, belief } = parts;
    this.device = options.device;
    this.#values = values;
    this.#law = law;
    this.#model = model;
    this.#engine = engine;
    this.#options = options;
    this.#belief = belief;
    this.#onRun = onRun;
    this.#onStall = onStall;
    this.#clock = options.device.clock;
    const { pageTokens } = model.shape;
    this.#prefix = this.#tokens(Math.floor(values.prefixTokens / pageTokens) * pageTokens);
  }

  static async open(
    values: RestoreValues,
    { law, policy }: Setting,
    onRun: (run: MeasuredRun) => void,
    onStall: (message: string) => void,
  ): Promise<RestoreBench> {
    const { model: path, loadFormat, device: kind, prefixTokens, suffixTokens } = values;
    const { streams, streamTokens } = values;
    const more = suffixTokens + Math.max(streamTokens, OUTPUT_TOKENS);
    const settings = settingsWith({
      model: path,
      loadFormat,
      device: kind,
      law,
      maxNumSeqs: policy === 'priced' ? 1 : streams + 2,
      maxModelLen: prefixTokens + more,
    });
    const config = configureEngine(settings, await readSealPolicy(values));
    const device = await openDevice(config);
    try {
      const belief = new Belief();
      const plain = engineOptions(config, device);
      const spec = await kvBytesPerToken(plain);
      // Room for the prefix and what else is written through beside it.
      const hostBytes = 2 * (prefixTokens + more) * spec;
      const tiers = { hostBytes, disk: null, spillLaneShare: 1, policy };
      const options = { ...plain, tiers, kvPrices: belief.over };
      const model = await prepareModel(options);
      runToEnd(model.runner.refine());
      const engine = await startEngine(options, model);
      await model.tiers!.host.grow();
      const parts = { model, engine, options, belief };
      return new RestoreBench(values, lawName(config.law.value), parts, onRun, onStall);
    } catch (error) {
      await device.close();
      throw error;
    }
  }

  close(): Promise<void> {
    return this.#engine.shutdown(0);
  }

  /** Tokens that no other call gave. */
  #tokens(count: number): Uint32Array {
    this.#requests += 1;
    const number = this.#requests;
    const { vocabularySize } = this.#model.spec;
    const at = (position: number) => (hash32(number, 91, position) >>> 0) % vocabularySize;
    return Uint32Array.from({ length: count }, (_, position) => at(position));
  }

  /** Submits a request; resolves at its end with what it brought and when its first token came. */
  #ask(promptTokens: Uint32Array, maxTokens: number) {
    const id = `${this.#requests++}`;
    const sampling = { ...GREEDY, maxTokens };
    const request: GenerationRequest = { id, tenant: TENANT, promptTokens, sampling };
    const answer = new Promise<{ firstNs: number; tokens: number[] }>((resolve, reject) => {
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
          resolve({ firstNs, tokens });
        }
      });
    });
    return this.#inTime(answer);
  }

  /** What waits for the device may never end: then this says what stands still, and rejects. */
  async #inTime<Result>(work: Promise<Result>): Promise<Result> {
    const clock = this.#clock;
    const lastNs = clock.nowNs() + STALLED_NS;
    let isOver = false;
    const done = work.finally(() => {
      isOver = true;
    });
    const watch = async () => {
      while (!isOver && clock.nowNs() < lastNs) await clock.sleepUntilNs(clock.nowNs() + LOOK_NS);
      if (!isOver) throw this.#stall();
      return done;
    };
    return Promise.race([done, watch()]);
  }

  #stall(): EngineError {
    const moves = this.#model.tiers!.mover.describe();
    const message = `no answer within ${STALLED_NS / 1e9} s: ${moves}`;
    this.#onStall(message);
    return new EngineError('engine-failed', message);
  }

  #behind(prefix: Uint32Array, suffix: Uint32Array): Uint32Array {
    const tokens = new Uint32Array(prefix.length + suffix.length);
    tokens.set(prefix);
    tokens.set(suffix, prefix.length);
    return tokens;
  }

  /** So many of the prefix's tokens are on the device and in host memory, and nothing else is. */
  async #hold(tokens: number): Promise<void> {
    const { tree } = this.#model;
    await this.#settleMoves();
    tree.forgetDevice();
    if (tokens === 0) return;
    this.#belief.way = 'restored';
    await this.#ask(this.#behind(this.#prefix.subarray(0, tokens), this.#tokens(1)), 1);
    await this.#settleMoves();
  }

  /** What was asked of the mover has come to its end, and the tree knows. */
  async #settleMoves(): Promise<void> {
    const { mover } = this.#model.tiers!;
    mover.queueMoves();
    await this.#inTime(mover.idle());
    this.#model.tree.settle();
  }

  /** Bytes that were restored until now. */
  #restoredBytes(): number {
    return this.#crossedBytes('kv-restore');
  }

  #crossedBytes(purpose: string): number {
    const { totals } = this.#engine.stats().bridge;
    return totals.reduce((sum, each) => sum + (each.purpose === purpose ? each.bytes : 0), 0);
  }

  /** Time to the first token behind tokens of the prefix, the first `held` of which are there. */
  async #time(way: Way, tokens: number, held: number, suffix: Uint32Array) {
    await this.#hold(held);
    this.#belief.way = way;
    const before = this.#restoredBytes();
    const startedNs = this.#clock.nowNs();
    const prompt = this.#behind(this.#prefix.subarray(0, tokens), suffix);
    const answer = await this.#ask(prompt, OUTPUT_TOKENS);
    return {
      ttftMs: (answer.firstNs - startedNs) / 1e6,
      restoredMiB: (this.#restoredBytes() - before) / 2 ** 20,
      tokens: answer.tokens.join(),
    };
  }

  /** Time to the first token behind the whole prefix, by each way that it may come. */
  async measurePrefix(): Promise<void> {
    const { repeats, suffixTokens } = this.#values;
    const { length } = this.#prefix;
    // What prompts take is learnt first, and the prefix is written through.
    for (let i = 0; i < 2; i++) await this.#ask(this.#tokens(length), 1);
    await this.#ask(this.#behind(this.#prefix, this.#tokens(1)), 1);
    const suffixes = Array.from({ length: repeats }, () => this.#tokens(suffixTokens));
    const answers: string[] = [];
    for (const way of ['held', 'restored', 'recomputed', 'chosen'] as const) {
      const held = way === 'held' ? length : 0;
      await this.#time(way, length, held, this.#tokens(suffixTokens));
      const measured: MeasuredRun['metrics'][] = [];
      for (const [i, suffix] of suffixes.entries()) {
        const { tokens, ...times } = await this.#time(way, length, held, suffix);
        answers[i] ??= tokens;
        measured.push({ ...times, equalTokens: answers[i] === tokens ? 1 : 0 });
      }
      this.#onRun(summarise({ ...this.#parameters(), way }, measured));
    }
  }

  #parameters(): MeasuredRun['parameters'] {
    const { model, suffixTokens } = this.#values;
    const prefixTokens = this.#prefix.length;
    return { model: model.split('/').at(-1)!, law: this.#law, prefixTokens, suffixTokens };
  }

  /**
   * The prefix's pages as engines move them without staging: each layer of each page crosses alone.
   * What is in them does not matter, and nothing else runs.
   */
  async measureNaive(): Promise<void> {
    await this.#hold(0);
    const { traffic, sealRoot } = this.#model;
    const { spec, shape } = this.#model.parts;
    const request = tiersRequest(this.#options, this.#model.parts, traffic, sealRoot)!;
    // Of windows and states there is no more than of contexts, and they would cross like these.
    const [contexts] = request.parts;
    invariant(contexts !== undefined, 'every model has contexts');
    const pages = this.#prefix.length / shape.pageTokens;
    const { elements, places } = kvPools(spec, shape.windowPages > 0);
    const layers = places.filter(({ pool, first }) => {
      return pool === 'context' && first < elements.context;
    });
    const layerBytes = contexts.bytes / new Set(layers.map(({ first }) => first)).size;
    const pieceBytes = pieceBytesOf(contexts.bytes, Math.ceil(layerBytes));
    const parts = [{ ...contexts, pieceBytes }];
    const hostBytes = pages * contexts.bytes;
    const limits = { ...request.limits, hostBytes, crossingBytes: 1 };
    const naive = await openTiers({ ...request, parts, limits });
    await naive.host.grow();
    const { mover } = naive;
    const moves = Array.from({ length: pages }, (_, page) => {
      return { part: 'context', page, slot: page, key: '' } as const;
    });
    for (let taken = 0; taken < moves.length; await mover.idle()) {
      taken += mover.spill({ tenant: TENANT, moves: moves.slice(taken) });
      mover.queueMoves();
    }
    mover.settled();
    const measured: MeasuredRun['metrics'][] = [];
    for (let i = 0; i <= this.#values.repeats; i++) {
      const startedNs = this.#clock.nowNs();
      mover.restore({ tenant: TENANT, moves, from: 'host' });
      mover.queueMoves();
      await mover.whenSettled();
      const restoreMs = (this.#clock.nowNs() - startedNs) / 1e6;
      const [settled] = mover.settled();
      invariant(settled?.kind === 'restored', 'the only restore has come');
      if (i > 0) measured.push({ restoreMs, restoredMiB: settled.bytes / 2 ** 20 });
      await mover.idle();
    }
    await naive.close();
    this.#onRun(summarise({ ...this.#parameters(), way: 'page by page' }, measured));
  }

  /** What others that decode lose while one restore follows the other. */
  async measureOthers(): Promise<void> {
    const { streams, streamTokens } = this.#values;
    await this.#hold(0);
    const decode = async () => {
      const startedNs = this.#clock.nowNs();
      const all = Array.from({ length: streams }, () => this.#ask(this.#tokens(16), streamTokens));
      const firsts = await Promise.all(all);
      // From when all of them decode.
      const fromNs = Math.max(startedNs, ...firsts.map(({ firstNs }) => firstNs));
      return (streams * streamTokens * 1e9) / (this.#clock.nowNs() - fromNs);
    };
    await decode();
    const measured: MeasuredRun['metrics'][] = [];
    for (let turn = 0; turn < TURNS; turn++) {
      const alone = await decode();
      let isOver = false;
      const streaming = decode().finally(() => {
        isOver = true;
      });
      const before = this.#restoredBytes();
      while (!isOver) await this.#restoreBeside();
      const restoredMiB = (this.#restoredBytes() - before) / 2 ** 20;
      const beside = await streaming;
      measured.push({
        tokensPerSecondAlone: alone,
        tokensPerSecondBeside: beside,
        lostFraction: 1 - beside / alone,
        restoredMiB,
      });
    }
    this.#onRun(summarise({ ...this.#parameters(), way: 'others', streams }, measured));
  }

  /** Brings as many pages as the prefix has to pages that nobody reads. */
  async #restoreBeside(): Promise<void> {
    const { tree, tiers, shape } = this.#model;
    const { mover } = tiers!;
    const count = this.#prefix.length / shape.pageTokens;
    const pages = tree.take(count);
    const moves = pages.map((page, slot) => ({ part: 'context', page, slot, key: '' }) as const);
    mover.restore({ tenant: TENANT, moves, from: 'host' });
    mover.queueMoves();
    await mover.idle();
    tree.release({
      request: { tenant: TENANT },
      length: 0,
      promptLength: 0,
      lastPosition: 0,
      tokens: () => new Uint32Array(),
      pages,
      window: { pages: [], first: 0, reserved: 0 },
      pageKeys: [],
      nodes: [],
      published: 0,
      snapshotPages: 0,
      branchPages: 0,
      awaited: null,
      isDistrustful: false,
      kvShares: [],
    });
  }

  /**
   * A span behind held prefixes of several lengths: restored, recomputed, and as the engine chooses
   * by its prices.
   */
  async measureDepths(): Promise<void> {
    const { depths, spanTokens: wanted, suffixTokens, repeats } = this.#values;
    const { pageTokens } = this.#model.shape;
    const { length } = this.#prefix;
    const spanTokens = Math.min(length, Math.max(1, Math.floor(wanted / pageTokens)) * pageTokens);
    for (let i = 0; i < 2; i++) await this.#ask(this.#tokens(length), 1);
    await this.#ask(this.#behind(this.#prefix, this.#tokens(1)), 1);
    for (let i = 0; i < depths; i++) {
      const share = depths === 1 ? 1 : i / (depths - 1);
      const depthPages = Math.round(((length - spanTokens) * share) / pageTokens);
      const depthTokens = depthPages * pageTokens;
      const median = async (way: Way) => {
        const times: number[] = [];
        for (let turn = 0; turn <= repeats; turn++) {
          const suffix = this.#tokens(suffixTokens);
          const { ttftMs } = await this.#time(way, depthTokens + spanTokens, depthTokens, suffix);
          if (turn > 0) times.push(ttftMs);
        }
        return times.sort((a, b) => a - b)[Math.floor(repeats / 2)]!;
      };
      const restoredMs = await median('restored');
      const recomputedMs = await median('recomputed');
      const chosenMs = await median('chosen');
      const bestMs = Math.min(restoredMs, recomputedMs);
      const metrics = { restoredMs, recomputedMs, chosenMs, chosenOverBest: chosenMs / bestMs };
      const parameters = { ...this.#parameters(), way: 'depth', depthTokens, spanTokens };
      this.#onRun({ parameters, metrics, repeats, spread: {} });
    }
  }

  /**
   * The prefix returns between prompts that push it off the device and never come again: the time
   * to its first token once it was learnt that it returns.
   */
  async measureChurn(): Promise<void> {
    const { repeats, suffixTokens } = this.#values;
    const { length } = this.#prefix;
    const measured: MeasuredRun['metrics'][] = [];
    for (let use = 0; use < repeats + LEARNING_USES; use++) {
      const before = this.#restoredBytes();
      const startedNs = this.#clock.nowNs();
      const prompt = this.#behind(this.#prefix, this.#tokens(suffixTokens));
      const { firstNs } = await this.#ask(prompt, OUTPUT_TOKENS);
      const restoredMiB = (this.#restoredBytes() - before) / 2 ** 20;
      if (use >= LEARNING_USES) measured.push({ ttftMs: (firstNs - startedNs) / 1e6, restoredMiB });
      for (let i = 0; i < 2; i++) await this.#ask(this.#tokens(length), 1);
    }
    this.#onRun(summarise({ ...this.#parameters(), way: 'churn' }, measured));
  }

  /** Prompts that never come again and push each other off the device: what is spilled of them. */
  async measureSingles(): Promise<void> {
    const { singlePrompts } = this.#values;
    const { length } = this.#prefix;
    const before = this.#crossedBytes('kv-spill');
    for (let i = 0; i < singlePrompts; i++) await this.#ask(this.#tokens(length), 1);
    const { mover } = this.#model.tiers!;
    await mover.idle();
    const { memory } = this.#engine.card;
    const computedMiB = (singlePrompts * length * (memory.kvBytes / memory.kvTokens)) / 2 ** 20;
    const spilledMiB = (this.#crossedBytes('kv-spill') - before) / 2 ** 20;
    const metrics = { computedMiB, spilledMiB, spilledFraction: spilledMiB / computedMiB };
    const parameters = { ...this.#parameters(), way: 'single use', singlePrompts };
    this.#onRun({ parameters, metrics, repeats: 1, spread: {} });
  }
}
