import { Draws } from '@bridgekeeper/planner/workload';
import { UsageError } from '@bridgekeeper/server';
import { recordsOf } from '../serve/trace.ts';
import type { PagedRequest } from './replay.ts';

export interface PagedTraceOptions {
  /** Of Mooncake's hash_ids. */
  readonly chunkTokens: number;
  readonly pageTokens: number;
  /** Arrivals of one second are spread over it; or stay as they are. */
  readonly jitters: boolean;
  readonly seed: number;
}

/** How many conversations of a file that gives no starts are open at a time. */
const OPEN_CONVERSATIONS = 32;

/** One request of a trace before its pages are numbered: what blocks of its prompt are the same. */
interface Block {
  readonly atSeconds: number;
  readonly tenant: string;
  readonly blocks: readonly string[];
  readonly inputTokens: number;
  readonly outputTokens: number;
}

/**
 * A trace as requests over pages, in order of time from 0, in any of these forms:
 * - JSON lines of requests, Mooncake's: `timestamp` in milliseconds, `input_length`,
 *   `output_length`, `hash_ids`, and, ours, `tenant`;
 * - JSON lines of conversations, WEKA's: `id`, `block_size` and `requests` with `t` in seconds from
 *   the conversation's start, `in`, `out` and `hash_ids` of the conversation; starts are drawn;
 * - Azure's CSV, in which no prompt shares anything.
 * Throws UsageError `bad-file`.
 */
export function readPagedTrace(text: string, options: PagedTraceOptions): PagedRequest[] {
  const isConversations = /^\s*\{[^\n]*?"requests"\s*:/.test(text.slice(0, 4096));
  const { blocks, blockTokens } = isConversations
    ? readConversations(text, options)
    : { blocks: readRequests(text, options), blockTokens: options.chunkTokens };
  if (options.pageTokens % blockTokens !== 0) {
    const message = `--page-tokens: must be a multiple of the trace's ${blockTokens} tokens`;
    throw new UsageError('bad-value', message);
  }
  const perPage = options.pageTokens / blockTokens;
  const ordered = blocks.sort((a, b) => a.atSeconds - b.atSeconds);
  const firstSeconds = ordered[0]?.atSeconds ?? 0;
  const numbers = new PrefixNumbers();
  return ordered.map(({ atSeconds, tenant, blocks: names, inputTokens, outputTokens }) => {
    const pages = Array.from({ length: Math.ceil(names.length / perPage) }, (_, page) =>
      names.slice(page * perPage, (page + 1) * perPage).join(),
    );
    const ids = numbers.of(tenant, pages);
    return { atSeconds: atSeconds - firstSeconds, tenant, ids, inputTokens, outputTokens };
  });
}

function readRequests(text: string, { chunkTokens, jitters, seed }: PagedTraceOptions): Block[] {
  return recordsOf(text, '--trace').map((record, index) => {
    const { atSeconds, inputTokens, outputTokens, hashIds, tenant } = record;
    const jitterSeconds = jitters ? new Draws(seed, 'arrivals', index).uniform() : 0;
    const count = Math.ceil(inputTokens / chunkTokens);
    const own = () => Array.from({ length: count }, (_, chunk) => `${index}.${chunk}`);
    return {
      atSeconds: atSeconds + jitterSeconds,
      tenant: tenant ?? 'trace',
      blocks: hashIds?.map(String) ?? own(),
      inputTokens,
      outputTokens: Math.max(1, outputTokens),
    };
  });
}

interface Turn {
  readonly t: number;
  readonly in: number;
  readonly out: number;
  readonly hash_ids: readonly number[];
}

interface Conversation {
  readonly id: string;
  readonly block_size: number;
  readonly requests: readonly Turn[];
}

function readConversations(
  text: string,
  { seed }: PagedTraceOptions,
): { readonly blocks: Block[]; readonly blockTokens: number } {
  const all = text.split('\n').flatMap((line, index) => {
    return line.trim() === '' ? [] : [readConversation(line, index)];
  });
  const lengths = all.map(({ requests }) => requests.at(-1)?.t ?? 0);
  const spanSeconds = lengths.reduce((sum, seconds) => sum + seconds, 0) / OPEN_CONVERSATIONS;
  const blocks = all.flatMap(({ id, requests }, index) => {
    const startSeconds = new Draws(seed, 'arrivals', index).uniform() * spanSeconds;
    return requests.map((request) => ({
      atSeconds: startSeconds + request.t,
      tenant: 'trace',
      blocks: request.hash_ids.map((hash) => `${id}.${hash}`),
      inputTokens: Math.max(1, request.in),
      outputTokens: Math.max(1, request.out),
    }));
  });
  return { blocks, blockTokens: all[0]?.block_size ?? 1 };
}

function readConversation(line: string, index: number): Conversation {
  const wrong = (what: string) => new UsageError('bad-file', `--trace, line ${index + 1}: ${what}`);
  let value: Partial<Conversation>;
  try {
    value = JSON.parse(line);
  } catch {
    throw wrong('is not JSON');
  }
  const { id, block_size: blockTokens, requests: entries } = value;
  if (typeof id !== 'string' || !Number.isInteger(blockTokens) || !Array.isArray(entries)) {
    throw wrong('a conversation has id, block_size and requests');
  }
  // That others worked for it meanwhile is noted there, without their requests.
  const requests: readonly Turn[] = entries.filter(({ type }) => type !== 'subagent');
  const isNumber = (each: unknown) => typeof each === 'number' && each >= 0;
  for (const { t, in: input, out, hash_ids: hashes } of requests) {
    const isRight = [t, input, out].every(isNumber) && Array.isArray(hashes);
    if (!isRight) throw wrong('a request has t, in, out and hash_ids');
  }
  return { id, block_size: blockTokens!, requests };
}

/** Numbers for prefixes: equal for equal pages after equal pages of the same tenant. */
class PrefixNumbers {
  readonly #numbers = new Map<string, number>();

  of(tenant: string, pages: readonly string[]): number[] {
    let parent: number | string = tenant;
    return pages.map((page) => {
      const key: string = `${parent}/${page}`;
      let number = this.#numbers.get(key);
      if (number === undefined) {
        number = this.#numbers.size;
        this.#numbers.set(key, number);
      }
      parent = number;
      return number;
    });
  }
}
