import { UsageError } from '@bridgekeeper/server';
import type { ServeValues } from './flags.ts';
import { type Goodput, LATENCY_NAMES, type LatencyName } from './statistics.ts';

/** The flags, checked against each other, and what follows from them. */
export interface ServeOptions {
  readonly values: ServeValues;
  readonly baseUrl: string;
  readonly url: URL;
  readonly api: 'completions' | 'chat';
  readonly ignoreEos: boolean;
  readonly isSelfTimed: boolean;
  readonly headers: Readonly<Record<string, string>>;
  /** Fields of every request besides prompt, length and streaming. */
  readonly extraBody: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, string>>;
  readonly shown: readonly LatencyName[];
  readonly percentiles: readonly number[];
  readonly goodput: Goodput;
}

const bad = (message: string) => new UsageError('bad-value', message);
const clash = (message: string) => new UsageError('bad-combination', message);

/** Throws UsageError. `apiKey` is OPENAI_API_KEY. */
export function settleOptions(values: ServeValues, apiKey: string | undefined): ServeOptions {
  const api = values.backend === 'openai-chat' ? 'chat' : 'completions';
  const suffix = api === 'chat' ? 'chat/completions' : 'completions';
  const endpoint = values.endpoint ?? `/v1/${suffix}`;
  if (!endpoint.endsWith(suffix)) {
    throw clash(`--endpoint: must end with ${suffix} for --backend ${values.backend}`);
  }
  const baseUrl = (values['base-url'] ?? `http://${hostPort(values)}`).replace(/\/+$/, '');
  checkDataset(values, api);
  return {
    values,
    baseUrl,
    url: urlOf(baseUrl, endpoint),
    api,
    // Made-up prompts have no natural end; as in vLLM.
    ignoreEos: values['ignore-eos'] || isSynthetic(values),
    isSelfTimed: values['dataset-name'] === 'timed_trace' && values['self-timed'] !== false,
    headers: headersOf(values, apiKey),
    extraBody: { ...samplingOf(values), ...extraBodyOf(values['extra-body']) },
    metadata: Object.fromEntries((values.metadata ?? []).map((pair) => split(pair, '='))),
    shown: values['percentile-metrics'].map(latencyName),
    percentiles: values['metric-percentiles'].map(percentile),
    goodput: goodputOf(values.goodput ?? []),
  };
}

/** Whether the prompts are made up, so that no person's text is in them. */
export function isSynthetic(values: ServeValues): boolean {
  return values['dataset-name'] === 'random' || values['dataset-name'] === 'timed_trace';
}

function hostPort({ host, port }: ServeValues): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function urlOf(baseUrl: string, endpoint: string): URL {
  const address = `${baseUrl}${endpoint}`;
  if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) {
    throw bad('--base-url: must be the http or https address of a server');
  }
  const url = new URL(address);
  if (url.username !== '' || url.password !== '') {
    throw bad('--base-url: put credentials into OPENAI_API_KEY or --header');
  }
  return url;
}

function checkDataset(values: ServeValues, api: 'completions' | 'chat'): void {
  const name = values['dataset-name'];
  const hasFile = values['dataset-path'] !== undefined;
  if (hasFile && name === 'random') throw clash('--dataset-path: random has no file');
  if (!hasFile && name !== 'random') throw clash(`--dataset-path: ${name} needs one`);
  if (values['self-timed'] !== undefined && name !== 'timed_trace') {
    throw clash('--self-timed: only timed_trace has times');
  }
  if (name === 'timed_trace' && api === 'chat') {
    throw clash('--backend: timed_trace sends token ids, which only completions take');
  }
  const needsText = name === 'sharegpt' || (name === 'random' && api === 'chat');
  if (needsText && values.tokenizer === undefined) {
    throw clash(`--tokenizer: needed for --dataset-name ${name} with --backend ${values.backend}`);
  }
}

function split(pair: string, separator: string): [string, string] {
  const at = pair.indexOf(separator);
  return [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
}

function headersOf(values: ServeValues, apiKey: string | undefined): Record<string, string> {
  const headers: Record<string, string> = {};
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  for (const pair of values.header ?? []) {
    const [name, value] = split(pair, '=');
    if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name) || /[^\t\x20-\x7e\x80-\xff]/.test(value)) {
      throw bad('--header: must be KEY=VALUE with characters that HTTP allows');
    }
    const same = Object.keys(headers).find((other) => other.toLowerCase() === name.toLowerCase());
    headers[same ?? name] = value;
  }
  return headers;
}

const SAMPLING_FLAGS = [
  'temperature',
  'top-p',
  'top-k',
  'min-p',
  'frequency-penalty',
  'presence-penalty',
  'repetition-penalty',
] as const;

function samplingOf(values: ServeValues): Record<string, number> {
  const given = SAMPLING_FLAGS.filter((flag) => values[flag] !== undefined);
  return Object.fromEntries(given.map((flag) => [flag.replace('-', '_'), values[flag]!]));
}

function extraBodyOf(json: string | undefined): Record<string, unknown> {
  if (json === undefined) return {};
  let body: unknown;
  try {
    body = JSON.parse(json);
  } catch {
    throw bad('--extra-body: is not JSON');
  }
  if (typeof body === 'object' && body !== null && !Array.isArray(body)) {
    return body as Record<string, unknown>;
  }
  throw bad('--extra-body: must be a JSON object');
}

function latencyName(name: string): LatencyName {
  const known = LATENCY_NAMES.find((each) => each === name);
  if (known !== undefined) return known;
  throw bad(`--percentile-metrics: must be of ${LATENCY_NAMES.join(', ')}`);
}

function percentile(text: string): number {
  const value = Number(text);
  if (value >= 0 && value <= 100) return value;
  throw bad(`--metric-percentiles: must be numbers from 0 to 100, got ${text.slice(0, 80)}`);
}

function goodputOf(objectives: readonly string[]): Goodput {
  const goodput: { -readonly [N in keyof Goodput]: number } = {};
  for (const objective of objectives) {
    const [name, text] = split(objective, ':');
    const milliseconds = text === '' ? Number.NaN : Number(text);
    if (!(milliseconds >= 0) || (name !== 'ttft' && name !== 'tpot' && name !== 'e2el')) {
      throw bad('--goodput: must be ttft, tpot or e2el, a colon and milliseconds');
    }
    goodput[name] = milliseconds;
  }
  return goodput;
}
