import { UsageError } from '@bridgekeeper/server';
import { Draws } from './draws.ts';
import type { BenchRequest } from './workload.ts';

/** One request of a recorded load: how long and when, without its text. */
export interface TraceRecord {
  readonly atSeconds: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** By chunk of the prompt: equal ids, equal tokens. Undefined where the trace has none. */
  readonly hashIds: readonly number[] | undefined;
  /** Whose it is, where the trace says so. */
  readonly tenant?: string | undefined;
}

export interface TraceOptions {
  readonly requests: number;
  /** Tokens that one of `hash_ids` stands for. */
  readonly chunkTokens: number;
  /** How many seconds 1 in the time column is; undefined: what the format means by it. */
  readonly secondsPerUnit: number | undefined;
  readonly seed: number;
}

/**
 * The requests of a trace, in order of time from 0: Mooncake's JSON lines (`timestamp` in
 * milliseconds, `input_length`, `output_length`, `hash_ids`) or Azure's CSV (`TIMESTAMP`,
 * `ContextTokens`, `GeneratedTokens`). Prompts are random tokens that share what the ids share.
 * Throws UsageError `bad-file` with the line that is wrong.
 */
export function* traceRequests(
  text: string,
  options: TraceOptions,
  vocabulary: ArrayLike<number>,
): Generator<BenchRequest> {
  const records = readTrace(text, options.secondsPerUnit);
  const ordered = records.sort((a, b) => a.atSeconds - b.atSeconds).slice(0, options.requests);
  const firstSeconds = ordered[0]?.atSeconds ?? 0;
  for (const [index, record] of ordered.entries()) {
    const { atSeconds, inputTokens, outputTokens } = record;
    yield {
      prompt: promptOf(record, index, options, vocabulary),
      promptTokens: inputTokens,
      outputTokens: Math.max(1, outputTokens),
      atSeconds: atSeconds - firstSeconds,
    };
  }
}

/** The records of a trace, as they come. Throws UsageError `bad-file`. */
export function readTrace(text: string, secondsPerUnit?: number): TraceRecord[] {
  const lines = text.split(/\r?\n/);
  return lines[0]!.startsWith('{')
    ? readJsonLines(lines, secondsPerUnit ?? 0.001)
    : readCsv(lines, secondsPerUnit ?? 1);
}

function promptOf(
  { inputTokens, hashIds }: TraceRecord,
  index: number,
  { chunkTokens, seed }: TraceOptions,
  vocabulary: ArrayLike<number>,
): number[] {
  if (hashIds === undefined) return new Draws(seed, 'prompt', index).picks(vocabulary, inputTokens);
  if (hashIds.length !== Math.ceil(inputTokens / chunkTokens)) {
    const message =
      `--timed-trace-chunk-hash-size: a record of ${inputTokens} tokens has ${hashIds.length} ` +
      `hash_ids, which is not what chunks of ${chunkTokens} give`;
    throw new UsageError('bad-file', message);
  }
  return hashIds.flatMap((id, chunk) => {
    const tokens = Math.min(chunkTokens, inputTokens - chunk * chunkTokens);
    return new Draws(seed, 'chunk', id).picks(vocabulary, tokens);
  });
}

const wrong = (line: number, what: string) =>
  new UsageError('bad-file', `--dataset-path, line ${line + 1}: ${what}`);

function readJsonLines(lines: readonly string[], secondsPerUnit: number): TraceRecord[] {
  return lines.flatMap((line, index): TraceRecord[] => {
    if (line.trim() === '') return [];
    let record: Record<string, unknown>;
    try {
      record = JSON.parse(line);
    } catch {
      throw wrong(index, 'is not JSON');
    }
    const field = (name: string): number => {
      const value = record[name];
      if (typeof value === 'number' && value >= 0) return value;
      throw wrong(index, `${name} must be a number from 0`);
    };
    const hashIds = record.hash_ids;
    if (hashIds !== undefined && !(Array.isArray(hashIds) && hashIds.every(Number.isInteger))) {
      throw wrong(index, 'hash_ids must be whole numbers');
    }
    return [
      {
        atSeconds: field('timestamp') * secondsPerUnit,
        inputTokens: Math.max(1, Math.floor(field('input_length'))),
        outputTokens: Math.floor(field('output_length')),
        hashIds: hashIds as readonly number[] | undefined,
        tenant: typeof record.tenant === 'string' ? record.tenant : undefined,
      },
    ];
  });
}

const CSV_COLUMNS = ['TIMESTAMP', 'ContextTokens', 'GeneratedTokens'] as const;

function readCsv(lines: readonly string[], secondsPerUnit: number): TraceRecord[] {
  const head = lines[0]!.split(',').map((name) => name.trim());
  const columns = CSV_COLUMNS.map((name) => head.indexOf(name));
  if (columns.includes(-1)) {
    const message = `neither JSON lines nor a table with the columns ${CSV_COLUMNS.join(', ')}`;
    throw wrong(0, message);
  }
  return lines.slice(1).flatMap((line, index): TraceRecord[] => {
    if (line.trim() === '') return [];
    const cells = line.split(',');
    const [time, input, output] = columns.map((column) => cells[column]?.trim() ?? '');
    const atSeconds = secondsOf(time!);
    const inputTokens = Number(input || Number.NaN);
    const outputTokens = Number(output || Number.NaN);
    if (!(Number.isFinite(atSeconds) && inputTokens >= 0 && outputTokens >= 0)) {
      throw wrong(index + 1, 'needs a time and two numbers of tokens');
    }
    return [
      {
        atSeconds: atSeconds * secondsPerUnit,
        inputTokens: Math.max(1, inputTokens),
        outputTokens,
        hashIds: undefined,
      },
    ];
  });
}

/** Of a date and time in UTC, with any number of decimals, or of a number; else NaN. */
function secondsOf(time: string): number {
  const match = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(\.\d+)?/.exec(time);
  if (match === null) return Number(time || Number.NaN);
  return Date.parse(`${match[1]}T${match[2]}Z`) / 1000 + Number(match[3] ?? 0);
}
