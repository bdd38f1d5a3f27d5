import { PlanError } from '../errors.ts';
import { arrivalSeconds } from './arrivals.ts';
import { Draws } from './draws.ts';
import type { Workload, WorkloadRequest } from './workload.ts';

/** How many tokens, drawn for each request. */
export type Length =
  | { readonly kind: 'fixed'; readonly tokens: number }
  | { readonly kind: 'uniform'; readonly low: number; readonly high: number }
  /** Log-normal, by its mean and its standard deviation over the mean. */
  | { readonly kind: 'spread'; readonly mean: number; readonly variation: number };

/** When requests come. */
export type Arrivals =
  | {
      readonly kind: 'open';
      readonly requestsPerSecond: number;
      /** Shape of the gaps' gamma distribution: 1 is a Poisson process, Infinity an even pace. */
      readonly burstiness: number;
    }
  | { readonly kind: 'closed'; readonly concurrency: number };

/** A load in words: `4 req/s, 1024+128`. */
export interface WorkloadSpec {
  readonly text: string;
  readonly arrivals: Arrivals;
  readonly prompt: Length;
  readonly output: Length;
  /** Tokens that all prompts of a group begin with. */
  readonly prefix: { readonly tokens: number; readonly groups: number } | null;
  readonly requests: number;
}

const SPEC_FORMS =
  '"<n> req/s" or "<n> at a time"; "<prompt>+<output>" tokens, each n, low..high or ' +
  'mean~variation; and, if wanted, "<n> requests" or "for <n> s|min|h", "poisson", "even" or ' +
  '"burstiness <x>", "prefix <n> of <groups>"';

const MAX_TOKENS = 2 ** 21;
const MAX_REQUESTS = 1_000_000;
const MAX_PER_SECOND = 100_000;
const MAX_CONCURRENCY = 65_536;
const SECONDS: Readonly<Record<string, number>> = { s: 1, sec: 1, min: 60, m: 60, h: 3600 };

/** Whether a text is a spec rather than the name of a file: no file is called like its rate. */
export function isSpec(text: string): boolean {
  return /^\s*\d+(\.\d+)?\s*(req|requests?|rps|at\s+a\s+time|concurrent)\b/i.test(text);
}

/**
 * Reads a load in words, its parts separated by commas. Throws PlanError `bad-workload` with the
 * part that is wrong.
 */
export function readSpec(text: string): WorkloadSpec {
  const wrong = (part: string, why: string) =>
    new PlanError('bad-workload', `--workload "${text}": "${part.trim()}" ${why}`);
  let arrivals: Arrivals | undefined;
  let lengths: { prompt: Length; output: Length } | undefined;
  let prefix: WorkloadSpec['prefix'] = null;
  let count: number | undefined;
  let seconds: number | undefined;
  let burstiness = 1;
  for (const part of text.split(',')) {
    const words = part.trim().toLowerCase();
    const rate = /^([\d.]+)\s*(?:req(?:uests?)?\s*\/\s*(\w+)|(rps))$/.exec(words);
    const closed = /^(?:concurrency\s+(\d+)|(\d+)\s+(?:at a time|concurrent))$/.exec(words);
    const tokens = /^([\d.~]+)\s*\+\s*([\d.~]+)(?:\s*tokens)?$/.exec(words);
    const requests = /^(\d+)\s+requests$/.exec(words);
    const span = /^for\s+([\d.]+)\s*(\w+)$/.exec(words);
    const shape = /^(poisson|even|burstiness\s+([\d.]+))$/.exec(words);
    const shared = /^prefix\s+(\d+)(?:\s+of\s+(\d+))?$/.exec(words);
    if (rate !== null) {
      const unit = rate[3] === undefined ? SECONDS[rate[2]!] : 1;
      if (unit === undefined) throw wrong(part, `is in no unit of time: ${units()}`);
      const perSecond = Number(rate[1]) / unit;
      if (!(perSecond > 0 && perSecond <= MAX_PER_SECOND)) {
        throw wrong(part, `must be above 0 and at most ${MAX_PER_SECOND} requests a second`);
      }
      arrivals = { kind: 'open', requestsPerSecond: perSecond, burstiness };
    } else if (closed !== null) {
      const concurrency = Number(closed[1] ?? closed[2]);
      if (concurrency < 1 || concurrency > MAX_CONCURRENCY) {
        throw wrong(part, `must be from 1 to ${MAX_CONCURRENCY} at a time`);
      }
      arrivals = { kind: 'closed', concurrency };
    } else if (tokens !== null) {
      const [prompt, output] = [lengthOf(tokens[1]!), lengthOf(tokens[2]!)];
      if (prompt === undefined || output === undefined) {
        throw wrong(part, `must be two lengths from 1 to ${MAX_TOKENS}: n, low..high, mean~0.5`);
      }
      lengths = { prompt, output };
    } else if (requests !== null) {
      count = Number(requests[1]);
      if (count < 1 || count > MAX_REQUESTS) {
        throw wrong(part, `must be from 1 to ${MAX_REQUESTS}`);
      }
    } else if (span !== null) {
      const unit = SECONDS[span[2]!];
      if (unit === undefined) throw wrong(part, `is in no unit of time: ${units()}`);
      seconds = Number(span[1]) * unit;
      if (!(seconds > 0)) throw wrong(part, 'must be longer than nothing');
    } else if (shape !== null) {
      burstiness = shapeOf(shape);
      if (!(burstiness > 0)) throw wrong(part, 'must be above 0');
    } else if (shared !== null) {
      const [prefixTokens, groups] = [Number(shared[1]), Number(shared[2] ?? 1)];
      if (groups < 1 || groups > MAX_REQUESTS || prefixTokens > MAX_TOKENS) {
        throw wrong(part, `must be up to ${MAX_TOKENS} tokens of 1 to ${MAX_REQUESTS} groups`);
      }
      prefix = { tokens: prefixTokens, groups };
    } else {
      throw wrong(part, `is not understood; a load is ${SPEC_FORMS}`);
    }
  }
  if (arrivals === undefined) throw wrong(text, `does not say when requests come: ${SPEC_FORMS}`);
  if (lengths === undefined) throw wrong(text, 'does not say how long they are: "1024+128"');
  if (arrivals.kind === 'closed' && seconds !== undefined) {
    throw wrong(text, 'says for how long a closed loop runs; say how many requests instead');
  }
  const defaultCount =
    arrivals.kind === 'closed'
      ? Math.max(8, 4 * arrivals.concurrency)
      : arrivals.requestsPerSecond * (seconds ?? Math.max(120, 60 / arrivals.requestsPerSecond));
  const requests = Math.round(count ?? defaultCount);
  if (requests < 1 || requests > MAX_REQUESTS) {
    throw wrong(text, `makes ${requests} requests; a plan takes 1 to ${MAX_REQUESTS}`);
  }
  return {
    text,
    arrivals: arrivals.kind === 'open' ? { ...arrivals, burstiness } : arrivals,
    ...lengths,
    prefix,
    requests,
  };
}

const units = () => Object.keys(SECONDS).join(', ');

function shapeOf([, name, value]: RegExpExecArray): number {
  if (name === 'poisson') return 1;
  return name === 'even' ? Number.POSITIVE_INFINITY : Number(value);
}

function lengthOf(text: string): Length | undefined {
  const isCount = (value: number) => Number.isInteger(value) && value >= 1 && value <= MAX_TOKENS;
  const range = /^(\d+)\.\.(\d+)$/.exec(text);
  if (range !== null) {
    const [low, high] = [Number(range[1]), Number(range[2])];
    return isCount(low) && isCount(high) && low <= high
      ? { kind: 'uniform', low, high }
      : undefined;
  }
  const spread = /^(\d+)~([\d.]+)$/.exec(text);
  if (spread !== null) {
    const [mean, variation] = [Number(spread[1]), Number(spread[2])];
    const isSpread = isCount(mean) && variation > 0 && variation <= 10;
    return isSpread ? { kind: 'spread', mean, variation } : undefined;
  }
  const tokens = Number(text);
  return /^\d+$/.test(text) && isCount(tokens) ? { kind: 'fixed', tokens } : undefined;
}

/** Of chunks that a spec's prompts are made of where they share a prefix. */
const PREFIX_CHUNK_TOKENS = 64;

/** The requests that a spec stands for; the same for the same seed. */
export function specWorkload(spec: WorkloadSpec, seed: number): Workload {
  const { arrivals, prompt, output, prefix, requests: count } = spec;
  const lengths = new Draws(seed, 'lengths');
  const times =
    arrivals.kind === 'open'
      ? arrivalSeconds(count, arrivals, new Draws(seed, 'arrivals'))
      : new Array<number>(count).fill(0);
  const firstSeconds = times[0]!;
  const groups = new Draws(seed, 'prefix');
  const requests = times.map((seconds, index): WorkloadRequest => {
    const own = drawLength(prompt, lengths);
    const outputTokens = drawLength(output, lengths);
    const promptTokens = own + (prefix?.tokens ?? 0);
    const chunks =
      prefix === null
        ? null
        : prefixChunks(promptTokens, prefix.tokens, groups.integer(0, prefix.groups - 1), index);
    const atNs = Math.round((seconds - firstSeconds) * 1e9);
    return { atNs, promptTokens, outputTokens, chunks, tenant: 'plan' };
  });
  const concurrency = arrivals.kind === 'closed' ? arrivals.concurrency : null;
  return { name: spec.text, concurrency, chunkTokens: PREFIX_CHUNK_TOKENS, requests };
}

/** Chunks of a group's prefix are the group's, all others this request's own. */
function prefixChunks(tokens: number, prefixTokens: number, group: number, index: number) {
  const shared = Math.floor(prefixTokens / PREFIX_CHUNK_TOKENS);
  return Array.from({ length: Math.ceil(tokens / PREFIX_CHUNK_TOKENS) }, (_, chunk) =>
    chunk < shared ? -1 - (group * shared + chunk) : index * MAX_TOKENS + chunk,
  );
}

function drawLength(length: Length, draws: Draws): number {
  if (length.kind === 'fixed') return length.tokens;
  if (length.kind === 'uniform') return draws.integer(length.low, length.high);
  const sigma = Math.sqrt(Math.log(1 + length.variation ** 2));
  const drawn = Math.round(length.mean * Math.exp(sigma * draws.normal() - sigma ** 2 / 2));
  return Math.min(MAX_TOKENS, Math.max(1, drawn));
}
