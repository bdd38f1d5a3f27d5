import { invariant } from '@bridgekeeper/bridge';
import { type GrammarOwner, GrammarPool } from '../grammar/grammar-pool.ts';
import { NOWHERE } from '../kv/page-node.ts';
import { NO_MATCH, type PrefixMatch } from '../kv/paged-sequence.ts';
import type { PrefixTree } from '../kv/prefix-tree.ts';
import { sumOfKvShares } from '../kv/tiers/kv-shares.ts';
import type { GenerationEvent, TokenLogprobs } from '../request/request.ts';
import { usesPenalties } from '../request/sampling.ts';
import { FairQueue } from './fair-queue.ts';
import {
  AHEAD_TOKENS,
  type DraftedRow,
  type GrammarWrite,
  LINE_STEP,
  type PageWrite,
  type PrefillChunk,
  type RowResult,
  type StateCopy,
  type StepPlan,
  type StepResults,
  wantsLines,
} from './plan.ts';
import type { Sequence } from './sequence.ts';

export interface SchedulerLimits {
  readonly maxRows: number;
  /** Tokens one step may compute, decode rows included. */
  readonly maxBatchTokens: number;
  readonly pageTokens: number;
  /** Logits lines one step may spend on prompt logprobs. */
  readonly maxLines: number;
  /** Tokens whose penalty counts one step may upload; a single sequence may always exceed it. */
  readonly maxCountTokens: number;
  readonly chunkedPrefill: boolean;
  /** Tokens of whole prompts that one step may upload for drafts; likewise. Absent: none are. */
  readonly maxHistoryTokens?: number;
}

/** Tokens to draft for each of these rows; 0: none. */
export type DraftsFor = (rows: readonly Sequence[]) => number;

const NO_DRAFTS: DraftsFor = () => 0;

export interface SchedulerCounters {
  /** Sampling steps that were committed. */
  steps: number;
  prefixQueriedTokens: number;
  prefixHitTokens: number;
  preemptions: number;
  promptTokens: number;
  generatedTokens: number;
  /** Steps of rows for which tokens were drafted, these, and those that were right. */
  drafts: number;
  draftTokens: number;
  acceptedTokens: number;
}

/**
 * Continuous batching: decides, step by step, which tokens of which sequences are computed. Pure:
 * no device, no clock (times are passed in). Owners share by weight, and of one owner's prompts
 * short ones pass long ones for a while (`FairQueue`); decoding rows go before prompts; a sequence
 * that cannot grow takes the pages of the one that goes last of the owner that was served most,
 * which starts over later (its prefix is likely still cached) and keeps its tokens. Whatever fits
 * alone therefore always ends.
 */
export class Scheduler {
  readonly counters: SchedulerCounters = {
    steps: 0,
    prefixQueriedTokens: 0,
    prefixHitTokens: 0,
    preemptions: 0,
    promptTokens: 0,
    generatedTokens: 0,
    drafts: 0,
    draftTokens: 0,
    acceptedTokens: 0,
  };
  readonly #limits: SchedulerLimits;
  readonly #tree: PrefixTree;
  readonly #grammars: GrammarPool;
  readonly #waiting = new FairQueue();
  /** In order of arrival. */
  readonly #running: Sequence[] = [];
  readonly #rows: (Sequence | undefined)[];
  #epoch = 0;
  /** Plans with work that were made, and those whose results were taken in. */
  #launched = 0;
  #settled = 0;
  /** What plans that launched nothing have left to tell the device. */
  #pageWrites: PageWrite[] = [];
  /** Places from which sequences in rows go on, as of the next plan that launches anything. */
  #restores: { readonly sequence: Sequence; readonly place: number }[] = [];
  /** Grammars that the next plan brings to the device. */
  #grammarWrites: GrammarWrite[] = [];

  constructor(limits: SchedulerLimits, tree: PrefixTree, grammars = new GrammarPool(0)) {
    this.#limits = limits;
    this.#tree = tree;
    this.#grammars = grammars;
    this.#rows = new Array(limits.maxRows).fill(undefined);
  }

  /** Tokens that any launch may compute. */
  get maxBatchTokens(): number {
    return this.#limits.maxBatchTokens;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  get running(): number {
    return this.#running.length;
  }

  /** Whether a prompt waits or is computed; those that come from stores wait for no launch. */
  get hasPrompts(): boolean {
    return this.#waiting.length > 0 || this.#hasComputing;
  }

  /** Whether pages are on their way to the device, for which prompts may wait. */
  get isRestoring(): boolean {
    return this.#tree.isRestoring;
  }

  /** When nothing more need be waited for of what is on its way; null: nothing is. */
  get lateNs(): number | null {
    return this.#tree.lateNs;
  }

  get busy(): boolean {
    return this.#waiting.length > 0 || this.#running.length > 0;
  }

  add(sequence: Sequence): void {
    this.#waiting.add(sequence);
  }

  /** Everything not finished, for a shutdown that fails what is left. */
  open(): readonly Sequence[] {
    return [...this.#running, ...this.#waiting.all()];
  }

  /**
   * Ends cancelled sequences and returns their last events. Launches on their way may still write
   * to their pages: those that get these next write after them.
   */
  retireCancelled(nowNs: number): readonly GenerationEvent[] {
    this.#tree.advance(nowNs);
    if (!this.#running.some(isCancelled) && !this.#waiting.has(isCancelled)) return NO_EVENTS;
    const cancelled = [...this.#running.filter(isCancelled), ...this.#waiting.all(isCancelled)];
    return cancelled.map((sequence) => {
      const finish = finishOf(sequence, { reason: 'cancelled' }, nowNs);
      this.#remove(sequence);
      return { id: sequence.request.id, tokens: [], finish };
    });
  }

  /**
   * Chooses the next launch's work and gives it rows and pages: up to `steps` decode steps, or one
   * while prompts are or could be computed, which should not wait for a burst. Beside decoding
   * rows, it computes `tokens` tokens at most, theirs included, so that their streams do not wait
   * for long. Where no prompt is computed, rows have the drafts that `draftsFor` says. Earlier
   * launches need not have been committed: everything a plan changes on the
   * device happens behind them. A plan is empty when all that is left is on its way.
   */
  plan(
    nowNs: number,
    steps = 1,
    tokens = this.#limits.maxBatchTokens,
    draftsFor = NO_DRAFTS,
  ): StepPlan {
    const pageWrites = this.#pageWrites;
    this.#pageWrites = [];
    this.#tree.advance(nowNs);
    this.#takeArrivals();
    this.#tree.evictAhead();
    for (const sequence of this.#running) this.#tree.window?.slide(sequence, sequence.computed);
    this.#makeRoom();
    const next = this.#waiting.first;
    const canAdmit =
      next !== undefined && this.#rows.includes(undefined) && this.#fits(next) !== undefined;
    const isPrefilling = canAdmit || this.#hasComputing;
    const planned = isPrefilling
      ? this.#planDecode(1, NO_DRAFTS, pageWrites)
      : this.#planDecode(steps, draftsFor, pageWrites);
    const { decode } = planned;
    const mayAdmit = !planned.preempted;
    const prefill = isPrefilling
      ? this.#planPrompts(decode.length, tokens, mayAdmit, pageWrites, nowNs)
      : NO_CHUNKS;
    for (const sequence of decode) {
      sequence.computed += planned.steps;
      sequence.ahead += planned.steps * planned.drafts;
    }
    for (const chunk of prefill) {
      chunk.sequence.computed = chunk.start + chunk.length;
      if (chunk.last) chunk.sequence.phase = 'decode';
      this.#tree.publish(chunk.sequence, chunk.sequence.computed);
    }
    const snapshots = this.#takeSnapshots(prefill);
    const { steps: planSteps, drafts } = planned;
    if (prefill.length + decode.length === 0) {
      // Nothing would ever come for it: it would be asked for again and again.
      const isLost = (each: Sequence) =>
        this.#launched === this.#settled && isPlannedToItsEnd(each);
      invariant(!this.#running.some(isLost), 'a row ends with the last token that it may have');
      // Prompts may wait for pages from stores: what they have is told with the next launch.
      this.#pageWrites = pageWrites;
      return { prefill, decode, steps: planSteps, drafts, pageWrites: [], grammarWrites: [] };
    }
    this.#launched += 1;
    const live = pageWrites.filter((write) => write.sequence.row >= 0);
    const grammarWrites = this.#grammarWrites;
    this.#grammarWrites = [];
    const restores = this.#takeRestores();
    this.#tree.launch();
    return {
      prefill,
      decode,
      steps: planSteps,
      drafts,
      pageWrites: live,
      grammarWrites,
      ...(restores.length > 0 && { restores }),
      ...(snapshots.length > 0 && { snapshots }),
    };
  }

  /**
   * Places for states as they are once these chunks are computed. All that is in the plan has its
   * place: what is continued by it was kept by an earlier one, and is copied before anything is
   * overwritten.
   */
  #takeSnapshots(prefill: readonly PrefillChunk[]): readonly StateCopy[] {
    if (!this.#tree.wantsBorders) return NO_COPIES;
    return prefill
      .map(({ sequence }) => ({
        row: sequence.row,
        place: this.#tree.takeSnapshot(sequence, sequence.computed),
      }))
      .filter(({ place }) => place !== NOWHERE);
  }

  #takeRestores(): readonly StateCopy[] {
    if (this.#restores.length === 0) return NO_COPIES;
    const restores = this.#restores.filter(({ sequence }) => sequence.row >= 0);
    this.#restores = [];
    return restores.map(({ sequence: { row }, place }) => ({ row, place }));
  }

  /** Prompts that are computed beside so many rows that decode: in rows, or that get one now. */
  #planPrompts(
    decodeRows: number,
    tokens: number,
    mayAdmit: boolean,
    pageWrites: PageWrite[],
    nowNs: number,
  ): readonly PrefillChunk[] {
    const budget = new StepBudget(this.#limits, this.#tree, decodeRows, tokens);
    const prefilling = this.#running.filter((each) => this.#isComputing(each));
    prefilling.sort((a, b) => this.#waiting.compare(a, b));
    const isNew = (sequence: Sequence) => this.#waiting.rowsOf(sequence) === 0;
    if (mayAdmit) this.#admit(budget, pageWrites, nowNs, isNew);
    for (const sequence of prefilling) {
      const isBefore = (other: Sequence) => this.#waiting.compare(other, sequence) < 0;
      if (mayAdmit) this.#admit(budget, pageWrites, nowNs, isBefore);
      this.#take(budget, sequence, pageWrites);
    }
    if (mayAdmit) this.#admit(budget, pageWrites, nowNs);
    return budget.chunks;
  }

  /**
   * The rows that decode, with pages for `steps` tokens each and their drafts, or for one token
   * where pages are short.
   */
  #planDecode(
    wanted: number,
    draftsFor: DraftsFor,
    pageWrites: PageWrite[],
  ): { decode: Sequence[]; steps: number; drafts: number; preempted: boolean } {
    const candidates: Sequence[] = [];
    // A launch longer than its longest row would only delay what comes after it.
    let longest = 1;
    for (const sequence of this.#running) {
      if (sequence.phase !== 'decode') continue;
      const left = sequence.lastPosition - sequence.computed;
      if (left <= 0) continue;
      candidates.push(sequence);
      longest = Math.max(longest, left);
    }
    let steps = Math.min(wanted, longest);
    let drafts = candidates.length === 0 ? 0 : draftsFor(candidates);
    const room = this.#aheadRoom(candidates);
    if (steps * (1 + drafts) > room) {
      steps = Math.max(1, Math.floor(room / (1 + drafts)));
      // Nothing is drafted, then, before it is known what became of earlier drafts.
      if (1 + drafts > room) drafts = 0;
    }
    const needed = this.#missingPages(candidates, steps * (1 + drafts));
    if (needed === 0) return { decode: candidates, steps, drafts, preempted: false };
    if (needed > this.#tree.available) {
      steps = 1;
      drafts = 0;
    }
    // Now that a command has to be sent for some row, pages for many steps of every row go with it.
    const tokens = steps * (1 + drafts);
    const ahead = tokens + AHEAD_TOKENS;
    const needsAhead = this.#missingPages(candidates, ahead);
    const reserved = 2 * needsAhead < this.#tree.available ? ahead : tokens;
    let preempted = false;
    for (const sequence of candidates) {
      if (sequence.phase !== 'decode') continue;
      while (!this.#reserve(sequence, reachOf(sequence, reserved), pageWrites)) {
        preempted = true;
        const victim = this.#victims()[0]!;
        this.#preempt(victim);
        if (victim === sequence) break;
      }
      if (sequence.phase === 'decode') {
        this.#extendWindow(sequence, reachOf(sequence, reserved), pageWrites);
      }
    }
    const decode = candidates.filter(({ phase }) => phase === 'decode');
    return { decode, steps, drafts, preempted };
  }

  /**
   * Tokens that all of these may be computed now, so far ahead as they are, within what is reserved
   * of windows: one, at the least, since each launch leaves room for its own.
   */
  #aheadRoom(sequences: readonly Sequence[]): number {
    const pool = this.#tree.window;
    if (pool === null) return Number.POSITIVE_INFINITY;
    const most = sequences.reduce((tokens, { ahead }) => Math.max(tokens, ahead), 0);
    return pool.aheadTokens - AHEAD_TOKENS - most;
  }

  /** Goes on with prompts whose pages have arrived, and starts over with those whose have not. */
  #takeArrivals(): void {
    const failed = this.#tree.settle();
    if (failed.size > 0) {
      for (const sequence of this.#running.filter((each) => failed.has(each))) {
        sequence.isDistrustful = true;
        this.#preempt(sequence);
      }
    }
    for (const sequence of this.#running) {
      const { awaited } = sequence;
      const { pageTokens } = this.#limits;
      if (awaited === null || sequence.computed < awaited.first * pageTokens) continue;
      if (awaited.arrivals.size > 0) {
        this.#tree.reconsider(sequence, this.#waiting.length + this.#computing);
        continue;
      }
      this.#find(sequence, (awaited.end - awaited.first) * pageTokens);
      sequence.computed = awaited.end * pageTokens;
      this.#continue(sequence);
      this.#tree.publish(sequence, sequence.computed);
    }
  }

  /** What the sequence has claimed is there: it goes on from the state after it. */
  #continue(sequence: Sequence): void {
    const place = this.#tree.continueFrom(sequence);
    if (place !== NOWHERE) this.#restores.push({ sequence, place });
  }

  /** So many tokens of a prompt need not be computed: they cost its owner nothing. */
  #find(sequence: Sequence, tokens: number): void {
    sequence.charged = Math.max(sequence.charged, sequence.computed + tokens);
    if (sequence.preemptions > 0) return;
    sequence.cachedTokens += tokens;
    this.counters.prefixHitTokens += tokens;
  }

  /** Whether a launch could compute something of its prompt now. */
  #isComputing(sequence: Sequence): boolean {
    return (
      sequence.phase === 'prefill' &&
      sequence.computed < reachableOf(sequence, this.#limits.pageTokens)
    );
  }

  get #hasComputing(): boolean {
    for (const sequence of this.#running) if (this.#isComputing(sequence)) return true;
    return false;
  }

  /** Requests in rows whose prompts a launch could go on with now. */
  get #computing(): number {
    return this.#running.filter((each) => this.#isComputing(each)).length;
  }

  /** Pages that these take for `tokens` more tokens each. */
  #missingPages(sequences: readonly Sequence[], tokens: number): number {
    const { pageTokens } = this.#limits;
    let missing = 0;
    for (const sequence of sequences) {
      const beyond = reachOf(sequence, tokens) - sequence.pages.length * pageTokens;
      if (beyond > 0) missing += Math.ceil(beyond / pageTokens);
    }
    return missing;
  }

  /** Takes in what the device reported for `plan`: an event for each request that got something. */
  commit(plan: StepPlan, results: StepResults, nowNs: number): GenerationEvent[] {
    this.#settled += 1;
    this.#tree.advance(nowNs);
    this.counters.steps +=
      (plan.decode.length > 0 ? plan.steps : 0) + (plan.prefill.length > 0 ? 1 : 0);
    const lines = results.promptLogprobs.values();
    const embeddings = (results.embeddings ?? []).values();
    const events = new Drafts(this.#settled);
    for (const chunk of plan.prefill) {
      const { sequence, length, epoch, last } = chunk;
      this.counters.promptTokens += length;
      const logprobs = wantsLines(chunk) ? lines.next().value! : [];
      const { pooling } = sequence.request;
      const embedding = last && pooling?.task === 'embed' ? embeddings.next().value! : undefined;
      if (sequence.epoch !== epoch || sequence.row < 0) continue;
      if (pooling === undefined) sequence.promptLogprobs.push(...logprobs);
      else if (last) {
        const pooled = embedding ?? Float32Array.of(scoreOf(logprobs));
        events.add(sequence, this.#commitPooled(sequence, pooled, nowNs));
      }
    }
    for (const drafted of results.drafted ?? []) this.#commitDrafts(drafted, plan.drafts);
    for (const result of results.rows) this.#commitRow(result, events, nowNs);
    return events.drafts;
  }

  #commitPooled(sequence: Sequence, pooled: Float32Array, nowNs: number): Draft {
    sequence.firstTokenNs ??= nowNs;
    const isBroken = pooled.some(Number.isNaN);
    const end = isBroken ? ({ reason: 'error', message: NO_NUMBERS } as const) : POOLED;
    const finish = finishOf(sequence, end, nowNs);
    this.#remove(sequence);
    return { id: sequence.request.id, tokens: [], finish, ...(isBroken ? {} : { pooled }) };
  }

  /** What a row's step may have computed is now known. */
  #commitDrafts({ row, epoch, drafts, accepted }: DraftedRow, planned: number): void {
    if (drafts > 0) this.counters.drafts += 1;
    this.counters.draftTokens += drafts;
    this.counters.acceptedTokens += accepted;
    const sequence = this.#rows[row];
    if (sequence === undefined || sequence.epoch !== epoch) return;
    sequence.computed += accepted;
    sequence.ahead -= planned;
  }

  #commitRow(result: RowResult, events: Drafts, nowNs: number): void {
    const sequence = this.#rows[result.row];
    // Late results of a row's earlier occupant belong to no request.
    if (sequence === undefined || sequence.epoch !== result.epoch) return;
    const { request } = sequence;
    const hasToken = result.finish !== 'error';
    let event = events.of(sequence);
    if (event === undefined) {
      event = { id: request.id, tokens: hasToken ? [result.token] : [] };
      events.add(sequence, event);
    } else if (hasToken) event.tokens.push(result.token);
    if (sequence.firstTokenNs === undefined) {
      sequence.firstTokenNs = nowNs;
      if (request.sampling.promptLogprobs !== undefined) {
        event.promptLogprobs = [...sequence.promptLogprobs];
      }
    }
    if (!hasToken) {
      const message = request.grammar === undefined ? NO_NUMBERS : NO_ADMITTED_TOKEN;
      event.finish = finishOf(sequence, { reason: 'error', message }, nowNs);
      this.#remove(sequence);
      return;
    }
    sequence.append(result.token);
    this.counters.generatedTokens += 1;
    this.#waiting.charge(sequence, sequence.length);
    // No step computes the token that ended a row, whatever was launched for it.
    const isLast = result.finish !== undefined;
    const known = isLast ? sequence.length - 1 : sequence.length;
    this.#tree.publish(sequence, Math.min(sequence.computed, known));
    if (result.logprobs !== undefined) {
      event.logprobs ??= [];
      event.logprobs.push(result.logprobs);
    }
    if (result.finish === undefined) return;
    // Where its grammar is complete, the last token is part of the text.
    const isStop =
      request.grammar === undefined || request.sampling.stopTokenIds.includes(result.token);
    const stopToken = result.finish === 'stop' && isStop ? { stopToken: result.token } : {};
    event.finish = finishOf(sequence, { reason: result.finish, ...stopToken }, nowNs);
    this.#remove(sequence);
  }

  /** Takes in those that go next, as long as they are `wanted` and there is room. */
  #admit(
    step: StepBudget,
    pageWrites: PageWrite[],
    nowNs: number,
    wanted: (sequence: Sequence) => boolean = () => true,
  ): void {
    for (;;) {
      const sequence = this.#waiting.first;
      if (sequence === undefined || !wanted(sequence) || !step.hasRoomFor(sequence)) return;
      const row = this.#rows.indexOf(undefined);
      if (row < 0 || !this.#claimPrompt(sequence, pageWrites)) return;
      this.#waiting.take(sequence);
      this.#rows[row] = sequence;
      sequence.row = row;
      this.#takeGrammar(sequence);
      sequence.epoch = this.#epoch = (this.#epoch + 1) & 0x7fffffff;
      sequence.phase = 'prefill';
      sequence.admittedNs ??= nowNs;
      const later = this.#running.findIndex((other) => other.arrival > sequence.arrival);
      this.#running.splice(later < 0 ? this.#running.length : later, 0, sequence);
      const chunk = this.#take(step, sequence, pageWrites);
      // Published before it is computed: later batches run after this one, and within a batch every
      // operation writes all keys and values before any are read. So equal prompts admitted
      // together already share their pages.
      if (chunk !== undefined) this.#tree.publish(sequence, chunk.start + chunk.length);
    }
  }

  /** The sequence's next chunk in this step, which its owner is charged for. */
  #take(step: StepBudget, sequence: Sequence, pageWrites: PageWrite[]): PrefillChunk | undefined {
    const chunk = step.take(sequence);
    if (chunk === undefined) return undefined;
    const end = chunk.start + chunk.length;
    this.#waiting.charge(sequence, end);
    this.#extendWindow(sequence, end, pageWrites);
    return chunk;
  }

  /**
   * An owner that goes next and has no row at all gets one now, and not when an answer of another
   * ends: from those that hold several, if its prompt is within its part of the pages.
   */
  #makeRoom(): void {
    const next = this.#waiting.first;
    if (next === undefined || this.#waiting.rowsOf(next) > 0) return;
    const pages = Math.ceil(next.length / this.#limits.pageTokens);
    if (pages > this.#tree.pages / this.#waiting.owners) return;
    // The room of a grammar that loses its last row is there once launches on their way are done.
    const fits = () => this.#fits(next, Number.POSITIVE_INFINITY) !== undefined;
    while (!this.#rows.includes(undefined) || !fits()) {
      const victim = this.#victims().find((each) => this.#waiting.rowsOf(each) > 1);
      if (victim === undefined) return;
      this.#preempt(victim);
    }
  }

  /** Those in rows, in the order in which they lose them: the reverse of who goes next. */
  #victims(): Sequence[] {
    return [...this.#running].sort((a, b) => this.#waiting.compare(b, a));
  }

  /**
   * Finds the cached prefix and takes pages for the rest of the prompt, or takes nothing and
   * returns false.
   */
  #claimPrompt(sequence: Sequence, pageWrites: PageWrite[]): boolean {
    const matched = this.#fits(sequence);
    if (matched === undefined) return false;
    const others = this.#waiting.length - 1 + this.#computing;
    const found = this.#tree.claim(sequence, matched, others) * this.#limits.pageTokens;
    if (sequence.awaited === null) this.#continue(sequence);
    if (sequence.preemptions === 0) this.counters.prefixQueriedTokens += sequence.length;
    this.#find(sequence, found);
    sequence.computed = found;
    const first = { sequence, first: 0, count: sequence.pages.length };
    if (first.count > 0) pageWrites.push(first);
    this.#claimWindow(sequence, pageWrites);
    invariant(this.#reserve(sequence, sequence.length, pageWrites), 'the pages were counted');
    return true;
  }

  /**
   * What is cached of a waiting sequence; undefined while pages for the rest, or room for its
   * grammar, cannot be had. `settled`: launches that no longer read grammars that were in use.
   */
  #fits(sequence: Sequence, settled = this.#settled): PrefixMatch | undefined {
    const owner = grammarOwner(sequence);
    if (owner !== undefined && !this.#grammars.fits(owner, settled)) return undefined;
    // A prompt whose logprobs are wanted is computed whole.
    const wantsAll = sequence.request.sampling.promptLogprobs !== undefined;
    const matched = wantsAll ? NO_MATCH : this.#tree.match(sequence);
    const needed = Math.ceil(sequence.length / this.#limits.pageTokens) - matched.onDevice;
    // Each running row may need a page soon: admitting into their last ones would only preempt
    // them.
    const headroom = this.#running.length;
    const fits = needed + matched.fromCache + headroom <= this.#tree.available;
    const hasWindow = this.#tree.window?.fits(sequence) ?? true;
    return fits && hasWindow ? matched : undefined;
  }

  /** Tells the device what the sequence's cached prefix has of its window. */
  #claimWindow(sequence: Sequence, pageWrites: PageWrite[]): void {
    const { first, pages } = sequence.window;
    const count = pages.length - first;
    if (count > 0) pageWrites.push({ sequence, first, count, isWindow: true });
  }

  /** Gives the sequence's window pages for its first `tokens` tokens: they are reserved. */
  #extendWindow(sequence: Sequence, tokens: number, pageWrites: PageWrite[]): void {
    const pool = this.#tree.window;
    if (pool === null) return;
    const { pages } = sequence.window;
    const first = pages.length;
    pool.extend(sequence, tokens);
    const count = pages.length - first;
    if (count > 0) pageWrites.push({ sequence, first, count, isWindow: true });
  }

  /** Finds its grammar in the device's pool, or has it brought there. */
  #takeGrammar(sequence: Sequence): void {
    const owner = grammarOwner(sequence);
    if (owner === undefined) return;
    const { offset, isNew } = this.#grammars.take(owner, this.#settled);
    sequence.grammarOffset = offset;
    if (!isNew) return;
    this.#grammarWrites.push({ ...owner, offset });
    sequence.grammarUploads.crossings += 1;
    sequence.grammarUploads.bytes += owner.grammar.words.byteLength;
  }

  /**
   * Gives the sequence pages for its first `tokens` tokens; false, and nothing changed, if they
   * cannot be had.
   */
  #reserve(sequence: Sequence, tokens: number, pageWrites: PageWrite[]): boolean {
    const first = sequence.pages.length;
    const count = Math.ceil(tokens / this.#limits.pageTokens) - first;
    if (count <= 0) return true;
    if (count > this.#tree.available) return false;
    sequence.pages.push(...this.#tree.take(count));
    pageWrites.push({ sequence, first, count });
    return true;
  }

  #preempt(sequence: Sequence): void {
    this.#leave(sequence);
    this.#waiting.giveBack(sequence);
    sequence.phase = 'waiting';
    sequence.computed = 0;
    sequence.ahead = 0;
    sequence.promptLogprobs.length = 0;
    sequence.preemptions += 1;
    this.counters.preemptions += 1;
  }

  #remove(sequence: Sequence): void {
    this.#waiting.leave(sequence);
    if (sequence.phase !== 'waiting') this.#leave(sequence);
    sequence.phase = 'finished';
  }

  /** Gives back row and pages. */
  #leave(sequence: Sequence): void {
    const index = this.#running.indexOf(sequence);
    invariant(index >= 0 && this.#rows[sequence.row] === sequence, 'only running sequences leave');
    this.#running.splice(index, 1);
    this.#rows[sequence.row] = undefined;
    const owner = grammarOwner(sequence);
    if (owner !== undefined) this.#grammars.release(owner, this.#launched);
    sequence.row = -1;
    this.#tree.release(sequence);
  }
}

/** The tokens and lines that one step may still spend on prompts. */
class StepBudget {
  readonly chunks: PrefillChunk[] = [];
  readonly #chunked: boolean;
  readonly #pageTokens: number;
  readonly #tree: PrefixTree;
  #tokens: number;
  #lines: number;
  #countTokens: number;
  #counted = false;
  #historyTokens: number;
  #hasHistory = false;

  constructor(
    limits: SchedulerLimits,
    tree: PrefixTree,
    decodeRows: number,
    tokensBesideRows: number,
  ) {
    this.#tree = tree;
    this.#chunked = limits.chunkedPrefill;
    this.#pageTokens = limits.pageTokens;
    const room = limits.maxBatchTokens - decodeRows;
    // Prompts that are computed whole take what they take.
    const isBeside = decodeRows > 0 && this.#chunked;
    this.#tokens = isBeside ? Math.min(room, chunkBeside(decodeRows, tokensBesideRows)) : room;
    this.#lines = limits.maxLines;
    this.#countTokens = limits.maxCountTokens;
    this.#historyTokens = limits.maxHistoryTokens ?? Number.POSITIVE_INFINITY;
  }

  hasRoomFor(sequence: Sequence): boolean {
    return this.#chunkLength(sequence) > 0;
  }

  #chunkLength(sequence: Sequence): number {
    const { sampling, pooling } = sequence.request;
    const rest = reachableOf(sequence, this.#pageTokens) - sequence.computed;
    if (usesPenalties(sampling) && this.#counted && sequence.length > this.#countTokens) return 0;
    if (!this.#chunked && rest > this.#tokens) return 0;
    // A prompt that is scored takes its lines with its last token.
    if (pooling?.task === 'score' && this.#lines < SCORE_LINES) return 0;
    const lines = sampling.promptLogprobs === undefined ? rest : this.#lines;
    const room = Math.max(0, Math.min(rest, this.#tokens, lines));
    const length = this.#tree.wantsBorders ? this.#toBorder(sequence, room) : room;
    const isLast = sequence.computed + length === sequence.length;
    // With its last chunk all of its tokens cross once more.
    if (isLast && this.#hasHistory && sequence.length > this.#historyTokens) return 0;
    return length;
  }

  /** As much of `room` as ends where a snapshot should be, or between pages, if there is more. */
  #toBorder(sequence: Sequence, room: number): number {
    const { computed, length } = sequence;
    const end = Math.min(computed + room, this.#tree.borderOf(sequence, computed));
    const border = end === length ? end : end - (end % this.#pageTokens);
    return border > computed ? border - computed : end - computed;
  }

  /** Spends what the sequence's next chunk takes; undefined when there is no room for any. */
  take(sequence: Sequence): PrefillChunk | undefined {
    const length = this.#chunkLength(sequence);
    if (length === 0) return undefined;
    const start = sequence.computed;
    const last = start + length === sequence.length;
    const chunk = { sequence, epoch: sequence.epoch, start, length, last };
    this.chunks.push(chunk);
    this.#tokens -= length;
    const { sampling, pooling } = sequence.request;
    if (last) {
      this.#historyTokens -= sequence.length;
      this.#hasHistory = true;
    }
    if (sampling.promptLogprobs !== undefined) this.#lines -= length;
    if (pooling?.task === 'score' && last) this.#lines -= SCORE_LINES;
    if (usesPenalties(sampling)) {
      this.#countTokens -= sequence.length;
      this.#counted = true;
    }
    return chunk;
  }
}

/** Prompts go on by so much beside any number of rows, whatever streams may wait. */
const MIN_CHUNK_TOKENS = 32;

/** Prompt tokens of a launch of `tokens` that holds `rows` decoding rows as well. */
function chunkBeside(rows: number, tokens: number): number {
  const chunk = tokens - Math.ceil(rows / LINE_STEP) * LINE_STEP;
  return Math.max(MIN_CHUNK_TOKENS, chunk - (chunk % LINE_STEP));
}

/** Weights that are not numbers, or whose results overflow, come to this. */
const NO_NUMBERS =
  'the model gave NaN or minus infinity for every token: its weights or its config.json are broken';

/** Of a score: one for each token that it is by. */
export const SCORE_LINES = 2;

/** How a prompt that is pooled ends. */
const POOLED = { reason: 'stop' } as const;

/** How likely the first token is, if it is one of both. */
function scoreOf([wanted, other]: readonly TokenLogprobs[]): number {
  return 1 / (1 + Math.exp(other!.logprob - wanted!.logprob));
}

const NO_ADMITTED_TOKEN =
  'no token could be sampled: the grammar admits none here that the model gives a number to';

function grammarOwner({ request }: Sequence): GrammarOwner | undefined {
  const { grammar, tenant } = request;
  return grammar === undefined ? undefined : { grammar, tenant };
}

type Finish = Pick<NonNullable<GenerationEvent['finish']>, 'reason' | 'stopToken' | 'message'>;

/** An event in the making. */
interface Draft extends GenerationEvent {
  readonly tokens: number[];
  logprobs?: TokenLogprobs[];
  promptLogprobs?: readonly TokenLogprobs[];
  finish?: NonNullable<GenerationEvent['finish']>;
}

/** The events of a commit, in the order in which their requests come up. */
class Drafts {
  readonly drafts: Draft[] = [];
  /** Commits are numbered from 1. */
  readonly #commit: number;

  constructor(commit: number) {
    this.#commit = commit;
  }

  /** A sequence's; undefined: there is none yet. */
  of({ toldIn, toldAt }: Sequence): Draft | undefined {
    return toldIn === this.#commit ? this.drafts[toldAt] : undefined;
  }

  add(sequence: Sequence, draft: Draft): void {
    sequence.toldIn = this.#commit;
    sequence.toldAt = this.drafts.length;
    this.drafts.push(draft);
  }
}

const NO_EVENTS: readonly GenerationEvent[] = [];
const NO_CHUNKS: readonly PrefillChunk[] = [];
const NO_COPIES: readonly StateCopy[] = [];
const isCancelled = (sequence: Sequence) => sequence.cancelled;

/** Whether launches were planned for all that it may say. */
function isPlannedToItsEnd({ phase, computed, lastPosition, cancelled }: Sequence): boolean {
  return phase === 'decode' && computed >= lastPosition && !cancelled;
}

/** Tokens of a prompt that can be computed before others arrive. */
function reachableOf({ awaited, length }: Sequence, pageTokens: number): number {
  return awaited === null ? length : awaited.first * pageTokens;
}

/** Tokens that must have pages for `tokens` more to be computed, behind all that may be by now. */
function reachOf(sequence: Sequence, tokens: number): number {
  return Math.min(sequence.computed + sequence.ahead + tokens, sequence.lastPosition);
}

/** How a sequence ended, and what it took. */
export function finishOf(
  sequence: Sequence,
  finish: Finish,
  nowNs: number,
): NonNullable<GenerationEvent['finish']> {
  const admittedNs = sequence.admittedNs ?? nowNs;
  const firstTokenNs = sequence.firstTokenNs ?? nowNs;
  const timing = {
    queuedNs: admittedNs - sequence.arrivedNs,
    prefillNs: firstTokenNs - admittedNs,
    decodeNs: nowNs - firstTokenNs,
    preemptions: sequence.preemptions,
  };
  const kv = sumOfKvShares(sequence.kvShares);
  return { ...finish, cachedTokens: sequence.cachedTokens, timing, ...(kv.length > 0 && { kv }) };
}
