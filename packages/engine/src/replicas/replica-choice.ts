import { createHash } from 'node:crypto';

/** Prompts are told apart by blocks of so many tokens: what is shared below is soon computed. */
const BLOCK_TOKENS = 128;
/** Of a prompt: behind them it matters little which replica has more. */
const BLOCKS_MAX = 64;
/** Prefixes that are remembered: about 100 bytes each. */
const PREFIXES_MAX = 65_536;

export interface ReplicaLoad {
  readonly isReady: boolean;
  /** Requests that it has and that have not ended. */
  readonly open: number;
  /** Requests that it decodes together. */
  readonly maxRows: number;
}

/**
 * Which of several replicas a request goes to: the one that last had the longest part of its
 * prompt, as its KV is there, unless that one has half a batch more to do than another; else the
 * one with least to do, in turns where several have. Prefixes are told apart by tenant, as in the
 * replicas themselves.
 */
export class ReplicaChoice {
  /** The replica that last had a prefix, by its digest; the longest unused first. */
  readonly #lastOf = new Map<string, number>();
  /** Behind the one that was chosen last, from where equals are looked through. */
  #next = 0;

  /** Index into `loads`; undefined: none of them is ready. Remembers its choice. */
  choose(tenant: string, tokens: Uint32Array, loads: readonly ReplicaLoad[]): number | undefined {
    const least = leastOf(loads, this.#next);
    if (least === undefined) return undefined;
    const prefixes = prefixesOf(tenant, tokens);
    const known = this.#longestKnown(prefixes);
    const chosen = known !== undefined && isFit(loads[known]!, loads[least]!) ? known : least;
    for (const prefix of prefixes) this.#remember(prefix, chosen);
    this.#next = chosen + 1;
    return chosen;
  }

  #longestKnown(prefixes: readonly string[]): number | undefined {
    for (const prefix of prefixes.toReversed()) {
      const last = this.#lastOf.get(prefix);
      if (last !== undefined) return last;
    }
    return undefined;
  }

  #remember(prefix: string, replica: number): void {
    this.#lastOf.delete(prefix);
    this.#lastOf.set(prefix, replica);
    if (this.#lastOf.size <= PREFIXES_MAX) return;
    const [oldest] = this.#lastOf.keys();
    this.#lastOf.delete(oldest!);
  }
}

function leastOf(loads: readonly ReplicaLoad[], first: number): number | undefined {
  let least: number | undefined;
  for (let i = 0; i < loads.length; i++) {
    const index = (first + i) % loads.length;
    const { isReady, open } = loads[index]!;
    if (isReady && (least === undefined || open < loads[least]!.open)) least = index;
  }
  return least;
}

const isFit = ({ isReady, open, maxRows }: ReplicaLoad, least: ReplicaLoad) =>
  isReady && open - least.open <= maxRows / 2;

/** Digests of the prompt's whole blocks, each over all tokens before its end. */
function prefixesOf(tenant: string, tokens: Uint32Array): string[] {
  const prefixes: string[] = [];
  let digest = tenant;
  const blocks = Math.min(BLOCKS_MAX, Math.floor(tokens.length / BLOCK_TOKENS));
  for (let block = 0; block < blocks; block++) {
    const part = tokens.subarray(block * BLOCK_TOKENS, (block + 1) * BLOCK_TOKENS);
    const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    digest = createHash('sha256').update(digest).update('\0').update(bytes).digest('base64');
    prefixes.push(digest);
  }
  return prefixes;
}
