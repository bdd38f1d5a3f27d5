import type { PageNode } from '../kv/page-node.ts';
import type { Awaited } from '../kv/paged-sequence.ts';
import type { KvShare } from '../kv/tiers/kv-shares.ts';
import { WindowPages } from '../kv/window-pool.ts';
import type { GenerationRequest, TokenLogprobs } from '../request/request.ts';

/** Where a sequence stands: in the queue, having its prompt computed, or decoding in a row. */
export type Phase = 'waiting' | 'prefill' | 'decode' | 'finished';

/** Room that is made for an answer before it is there, at most. */
const ROOM_TOKENS = 512;

/** A request inside the engine: its tokens, its place on the device, and its times. */
export class Sequence {
  readonly request: GenerationRequest;
  readonly seed: bigint;
  readonly promptLength: number;
  /** Tokens that are computed in all: the one after them is the request's last, if it has any. */
  readonly lastPosition: number;
  /** Order of arrival. */
  readonly arrival: number;
  readonly arrivedNs: number;
  phase: Phase = 'waiting';
  /** Prompt, then output. */
  #tokens: Uint32Array;
  length: number;
  /** Tokens whose KV is on the device or being computed by a launched step, at the least. */
  computed = 0;
  /** More than these that launches on their way compute if all that they draft is right. */
  ahead = 0;
  readonly pages: number[] = [];
  readonly window = new WindowPages();
  /** Keys of the full pages of this sequence, as far as they were needed. */
  readonly pageKeys: string[] = [];
  /** Nodes of the prefix tree that this sequence holds. */
  readonly nodes: PageNode[] = [];
  /** Pages of this sequence already published. */
  published = 0;
  /** After so many pages its prefix had a snapshot last, and others parted from it. */
  snapshotPages = 0;
  branchPages = 0;
  /** What it must not compute, since it is there or comes from a store. */
  awaited: Awaited | null = null;
  /** It waited for what did not come from a store. */
  isDistrustful = false;
  /** What it had of stores, as it came about. */
  readonly kvShares: KvShare[] = [];
  row = -1;
  /** Word offset of its grammar in the device's pool, while it has a row. */
  grammarOffset = 0;
  /** What of its grammar crossed for it. */
  readonly grammarUploads = { crossings: 0, bytes: 0 };
  epoch = 0;
  cachedTokens = 0;
  /** What its owner will have been served when it should go: its place among its owner's. */
  due = 0;
  /** Tokens that count as computed for its owner. */
  charged = 0;
  preemptions = 0;
  cancelled = false;
  /** The commit that told of it last, and its event's place among those of that. */
  toldIn = 0;
  toldAt = 0;
  admittedNs: number | undefined;
  firstTokenNs: number | undefined;
  /** Prompt logprobs gathered so far. */
  readonly promptLogprobs: TokenLogprobs[] = [];

  constructor(request: GenerationRequest, seed: bigint, arrival: number, arrivedNs: number) {
    this.request = request;
    this.seed = seed;
    this.arrival = arrival;
    this.arrivedNs = arrivedNs;
    this.promptLength = request.promptTokens.length;
    this.length = this.promptLength;
    const { maxTokens } = request.sampling;
    this.lastPosition = this.promptLength + (request.pooling === undefined ? maxTokens - 1 : 0);
    this.#tokens = new Uint32Array(this.promptLength + Math.min(maxTokens, ROOM_TOKENS));
    this.#tokens.set(request.promptTokens);
    if (request.priorTokens === undefined) return;
    for (const token of request.priorTokens) this.append(token);
    this.preemptions = 1;
  }

  get generated(): number {
    return this.length - this.promptLength;
  }

  append(token: number): void {
    if (this.length === this.#tokens.length) {
      const larger = new Uint32Array(Math.max(this.#tokens.length * 2, ROOM_TOKENS));
      larger.set(this.#tokens);
      this.#tokens = larger;
    }
    this.#tokens[this.length] = token;
    this.length += 1;
  }

  /** A view of tokens [from, to). */
  tokens(from = 0, to = this.length): Uint32Array {
    return this.#tokens.subarray(from, to);
  }
}
