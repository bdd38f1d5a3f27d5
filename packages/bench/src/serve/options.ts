import { flagOf, UsageError } from '@bridgekeeper/server';
import type { ServeValues } from './flags.ts';
import type { Goodput } from './statistics.ts';

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
  const baseUrl = (values.baseUrl ?? `http://${hostPort(values)}`).replace(/\/+$/, '');
  checkDataset(values, api);
  return {
    values,
    baseUrl,
    url: urlOf(baseUrl, endpoint),
    api,
    // Made-up prompts have no natural end; as in vLLM.
    ignoreEos: values.ignoreEos || isSynthetic(values),
    isSelfTimed: values.datasetName === 'timed_trace' && values.selfTimed !== false,
    headers: headersOf(values, apiKey),
    extraBody: { ...samplingOf(values), ...values.extraBody },
    metadata: Object.fromEntries(values.metadata),
    goodput: Object.fromEntries(values.goodput),
  };
}

/** Whether the prompts are made up, so that no person's text is in them. */
export function isSynthetic(values: ServeValues): boolean {
  return values.datasetName === 'random' || values.datasetName === 'timed_trace';
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
  const name = values.datasetName;
  const hasFile = values.datasetPath !== undefined;
  if (hasFile && name === 'random') throw clash('--dataset-path: random has no file');
  if (!hasFile && name !== 'random') throw clash(`--dataset-path: ${name} needs one`);
  if (values.selfTimed !== undefined && name !== 'timed_trace') {
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

function headersOf(values: ServeValues, apiKey: string | undefined): Record<string, string> {
  const headers: Record<string, string> = {};
  if (apiKey) headers.Authorization = `Bearer ${apiKey}`;
  for (const [name, value] of values.header) {
    const same = Object.keys(headers).find((other) => other.toLowerCase() === name.toLowerCase());
    headers[same ?? name] = value;
  }
  return headers;
}

const SAMPLING_FLAGS = [
  'temperature',
  'topP',
  'topK',
  'minP',
  'frequencyPenalty',
  'presencePenalty',
  'repetitionPenalty',
] as const;

function samplingOf(values: ServeValues): Record<string, number> {
  const given = SAMPLING_FLAGS.filter((name) => values[name] !== undefined);
  return Object.fromEntries(given.map((name) => [flagOf(name).replace('-', '_'), values[name]!]));
}
