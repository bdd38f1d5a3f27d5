import { PlanError } from '../errors.ts';
import type { Workload, WorkloadRequest } from './workload.ts';

/** One request of a recorded load as its file has it. */
export interface TraceRecord {
  readonly atSeconds: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
  /** By chunk of the prompt: equal ids, equal tokens. Undefined where the trace has none. */
  readonly hashIds: readonly number[] | undefined;
  readonly tenant: string | undefined;
}

export interface TraceOptions {
  /** For messages: a file, or the flag that named it. */
  readonly where: string;
  /** How many seconds 1 in the time column is; undefined: what the format means by it. */
  readonly secondsPerUnit?: number | undefined;
}

const MAX_LINES = 2_000_000;
/** No model reads or writes more in one request. */
const MAX_TOKENS = 2 ** 24;
const MAX_SECONDS = 10 * 365 * 86_400;
const MAX_TENANT_CHARACTERS = 128;

/**
 * The requests of a trace, by time: Mooncake's JSON lines (`timestamp` in milliseconds,
 * `input_length`, `output_length`, `hash_ids`), ours (`atSeconds`, `promptTokens`, `outputTokens`,
 * `hashIds`, `tenant`), or Azure's CSV (`TIMESTAMP`, `ContextTokens`, `GeneratedTokens`). Throws
 * PlanError `bad-workload` with the line that is wrong.
 */
export function readTrace(text: string, options: TraceOptions): readonly TraceRecord[] {
  const lines = text.split(/\r?\n/);
  if (lines.length > MAX_LINES) {
    throw wrong(options, MAX_LINES, `is more than the ${MAX_LINES} lines that are read`);
  }
  const records = lines[0]!.trimStart().startsWith('{')
    ? readJsonLines(lines, options)
    : readCsv(lines, options);
  return records.sort((a, b) => a.atSeconds - b.atSeconds);
}

const wrong = ({ where }: TraceOptions, index: number, what: string) =>
  new PlanError('bad-workload', `${where}, line ${index + 1}: ${what}`);

function readJsonLines(lines: readonly string[], options: TraceOptions): TraceRecord[] {
  return lines.flatMap((line, index) => {
    if (line.trim() === '') return [];
    return [jsonRecord(line, index, options)];
  });
}

/** Where formats keep what; the first whose time is there is the line's. */
const JSON_FORMATS = [
  {
    at: 'timestamp',
    input: 'input_length',
    output: 'output_length',
    hashIds: 'hash_ids',
    secondsPerUnit: 0.001,
  },
  {
    at: 'atSeconds',
    input: 'promptTokens',
    output: 'outputTokens',
    hashIds: 'hashIds',
    secondsPerUnit: 1,
  },
] as const;

function jsonRecord(line: string, index: number, options: TraceOptions): TraceRecord {
  let parsed: unknown;
  try {
    parsed = JSON.parse(line);
  } catch {
    throw wrong(options, index, 'is not JSON');
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) {
    throw wrong(options, index, 'must be a JSON object');
  }
  const record = parsed as Readonly<Record<string, unknown>>;
  const format = JSON_FORMATS.find(({ at }) => at in record);
  if (format === undefined) {
    const times = JSON_FORMATS.map(({ at }) => at).join(' or ');
    throw wrong(options, index, `has no time: ${times}`);
  }
  const field = (name: string, most: number): number => {
    const value = record[name];
    if (typeof value === 'number' && value >= 0 && value <= most) return value;
    throw wrong(options, index, `${name} must be a number from 0 to ${most}`);
  };
  const hashIds = record[format.hashIds];
  if (hashIds !== undefined && !(Array.isArray(hashIds) && hashIds.every(Number.isSafeInteger))) {
    throw wrong(options, index, `${format.hashIds} must be whole numbers`);
  }
  const { tenant } = record;
  if (
    tenant !== undefined &&
    !(typeof tenant === 'string' && tenant !== '' && tenant.length <= MAX_TENANT_CHARACTERS)
  ) {
    const what = `tenant must be a text of 1 to ${MAX_TENANT_CHARACTERS} characters`;
    throw wrong(options, index, what);
  }
  const unit = options.secondsPerUnit ?? format.secondsPerUnit;
  return {
    atSeconds: field(format.at, MAX_SECONDS / unit) * unit,
    inputTokens: Math.max(1, Math.floor(field(format.input, MAX_TOKENS))),
    outputTokens: Math.floor(field(format.output, MAX_TOKENS)),
    hashIds: hashIds as readonly number[] | undefined,
    tenant: tenant as string | undefined,
  };
}

const CSV_COLUMNS = ['TIMESTAMP', 'ContextTokens', 'GeneratedTokens'] as const;

function readCsv(lines: readonly string[], options: TraceOptions): TraceRecord[] {
  const head = lines[0]!.replace(/^\uFEFF/, '').split(',');
  const names = head.map((name) => name.trim());
  const columns = CSV_COLUMNS.map((name) => names.indexOf(name));
  if (columns.includes(-1)) {
    const message = `neither JSON lines nor a table with the columns ${CSV_COLUMNS.join(', ')}`;
    throw wrong(options, 0, message);
  }
  const unit = options.secondsPerUnit ?? 1;
  return lines.slice(1).flatMap((line, index): TraceRecord[] => {
    if (line.trim() === '') return [];
    const cells = line.split(',');
    const [time, input, output] = columns.map((column) => cells[column]?.trim() ?? '');
    const atSeconds = secondsOf(time!);
    const inputTokens = Number(input || Number.NaN);
    const outputTokens = Number(output || Number.NaN);
    const isCount = (value: number) => value >= 0 && value <= MAX_TOKENS;
    if (!(Number.isFinite(atSeconds) && isCount(inputTokens) && isCount(outputTokens))) {
      throw wrong(options, index + 1, 'needs a time and two numbers of tokens');
    }
    return [
      {
        atSeconds: atSeconds * unit,
        inputTokens: Math.max(1, Math.floor(inputTokens)),
        outputTokens: Math.floor(outputTokens),
        hashIds: undefined,
        tenant: undefined,
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

/**
 * The first `requests` records as a load, from time 0. Every request has at least one token of
 * output. Throws PlanError `bad-workload` where ids do not fit the chunks.
 */
export function traceWorkload(
  name: string,
  records: readonly TraceRecord[],
  options: { readonly requests: number; readonly chunkTokens: number },
): Workload {
  const { chunkTokens } = options;
  const chosen = records.slice(0, options.requests);
  if (chosen.length === 0) throw new PlanError('bad-workload', `${name}: has no request`);
  const firstSeconds = chosen[0]!.atSeconds;
  const requests = chosen.map(
    ({ atSeconds, inputTokens, outputTokens, hashIds, tenant }): WorkloadRequest => {
      if (hashIds !== undefined && hashIds.length !== Math.ceil(inputTokens / chunkTokens)) {
        const message =
          `${name}: a record of ${inputTokens} tokens has ${hashIds.length} hash ids, which is ` +
          `not what chunks of ${chunkTokens} give`;
        throw new PlanError('bad-workload', message);
      }
      return {
        atNs: Math.round((atSeconds - firstSeconds) * 1e9),
        promptTokens: inputTokens,
        outputTokens: Math.max(1, outputTokens),
        chunks: hashIds ?? null,
        tenant: tenant ?? 'trace',
      };
    },
  );
  return { name, concurrency: null, chunkTokens, requests };
}
