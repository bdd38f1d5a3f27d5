import { openModel } from '@bridgekeeper/engine/seal';
import { openTokenizer, type Tokenizer } from '@bridgekeeper/engine/text';
import { arrivalSeconds, Draws } from '@bridgekeeper/planner/workload';
import { readSealPolicy, UsageError } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { BenchError } from '../errors.ts';
import type { Suite, SuiteIo, SuiteResult } from '../suite.ts';
import { ServeClient } from './client.ts';
import { drive, type Send } from './drive.ts';
import { SERVE_FLAGS, type ServeValues } from './flags.ts';
import { isSynthetic, type ServeOptions, settleOptions } from './options.ts';
import type { RunOutcome } from './outcome.ts';
import { progressLine } from './progress.ts';
import { benchRun, failureLines, faultText, resultBlock } from './report.ts';
import { type PreparedRequest, prepareRequests, type Sources } from './requests.ts';
import { resultPath, type SavedRun, savedResult } from './saved-result.ts';
import { statisticsOf } from './statistics.ts';

/** The standard serving benchmark, against any server with OpenAI's API. */
export const SERVE_SUITE: Suite<typeof SERVE_FLAGS> = {
  name: 'serve',
  summary: 'the standard serving benchmark against any server with the OpenAI API',
  flags: SERVE_FLAGS,
  async run(values, progress, io) {
    const options = settleOptions(values, io.environment.OPENAI_API_KEY);
    const sources = await readSources(options, io);
    const bench = new ServeBench(options, progress, io);
    try {
      return await bench.run(sources);
    } finally {
      bench.close();
    }
  },
};

async function readSources({ values }: ServeOptions, io: SuiteIo): Promise<Sources> {
  const { datasetPath: path } = values;
  const tokenizer = await tokenizerOf(values);
  if (path === undefined) return { text: '', tokenizer };
  try {
    return { text: io.readFile(path), tokenizer };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new UsageError('bad-file', `--dataset-path: cannot read ${path} (${code})`);
  }
}

async function tokenizerOf(values: ServeValues): Promise<Tokenizer | undefined> {
  const { tokenizer: folder } = values;
  if (folder === undefined) return undefined;
  const { files } = await openModel(folder, await readSealPolicy(values));
  return openTokenizer(files);
}

const READY_RETRY_NS = 5e9;
/** Seconds between two looks at a terminal, and between two lines of a log. */
const REDRAW_SECONDS = 0.25;
const LOG_SECONDS = 10;

/** One run, from asking for the model to the saved result. */
class ServeBench {
  readonly #options: ServeOptions;
  readonly #progress: (line: string) => void;
  readonly #io: SuiteIo;
  readonly #client: ServeClient;
  readonly #counts = { requests: 0, done: 0, failed: 0, chunks: 0 };

  constructor(options: ServeOptions, progress: (line: string) => void, io: SuiteIo) {
    const { values, url, headers } = options;
    this.#options = options;
    this.#progress = progress;
    this.#io = io;
    const client = {
      url,
      headers,
      silenceSeconds: values.timeout,
      insecure: values.insecure,
      quotesErrors: isSynthetic(values),
    };
    this.#client = new ServeClient(client, HOST_CLOCK, () => {
      this.#counts.chunks += 1;
    });
  }

  close(): void {
    this.#client.close();
  }

  async run(sources: Sources): Promise<SuiteResult> {
    const options = this.#options;
    const model = await this.#model();
    this.#progress(`writing requests for ${model} at ${options.url.origin}`);
    const requests = prepareRequests(options, model, sources);
    this.#progress(`sending ${requests.length} requests`);
    await this.#awaitReady(requests[0]!);
    await this.#warmUp(requests[0]!);
    const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
    const run = await this.#measure(requests);
    for (const line of failureLines(run.outcomes)) this.#progress(line);
    const statistics = statisticsOf(run, options.values.metricPercentiles, options.goodput);
    this.#save({ model, startedAt, run, statistics });
    return {
      device: { name: `server at ${options.url.host}`, driver: null },
      runs: [benchRun(statistics, options, model)],
      text: resultBlock(statistics, options),
      ...(statistics.completed === 0 ? { failure: 'no request succeeded' } : {}),
    };
  }

  /** The model's name in the API. Throws BenchError `unreachable`. */
  async #model(): Promise<string> {
    const { servedModelName: served, model } = this.#options.values;
    const given = served ?? model;
    if (given !== undefined) return given;
    const url = new URL(`${this.#options.baseUrl}/v1/models`);
    const list = await this.#client.get(url);
    const first = (list.document as { data?: { id?: unknown }[] } | null)?.data?.[0]?.id;
    if (typeof first === 'string') return first;
    const reason = list.fault ?? 'it lists no model';
    const hint = 'Is the address right, and the server up? --model names the model without asking.';
    throw new BenchError('unreachable', `cannot ask ${url} for its model: ${reason}. ${hint}`);
  }

  /** Throws BenchError `not-ready` with what the last try met. */
  async #awaitReady(request: PreparedRequest): Promise<void> {
    const timeoutSeconds = this.#options.values.readyCheckTimeoutSec;
    if (timeoutSeconds === 0) return;
    const deadlineNs = HOST_CLOCK.nowNs() + timeoutSeconds * 1e9;
    for (;;) {
      const { fault } = await this.#client.send(request, HOST_CLOCK.nowNs());
      if (fault === undefined) return;
      const nextNs = HOST_CLOCK.nowNs() + READY_RETRY_NS;
      if (nextNs > deadlineNs) {
        const message = `the server was not ready in ${timeoutSeconds} s: ${faultText(fault)}`;
        throw new BenchError('not-ready', message);
      }
      await HOST_CLOCK.sleepUntilNs(nextNs);
    }
  }

  /** As vLLM does it, with the first request over and over. */
  async #warmUp(request: PreparedRequest): Promise<void> {
    const count = this.#options.values.numWarmups;
    const requests = new Array<PreparedRequest>(count).fill(request);
    const atSeconds = new Array<number>(count).fill(0);
    const load = { requests, atSeconds, maxConcurrency: this.#maxConcurrency };
    await drive(load, HOST_CLOCK, (each, arrivedNs) => this.#client.send(each, arrivedNs));
  }

  async #measure(requests: readonly PreparedRequest[]): Promise<RunOutcome> {
    const counts = Object.assign(this.#counts, { requests: requests.length, chunks: 0 });
    const send: Send<PreparedRequest> = async (request, arrivedNs) => {
      const outcome = await this.#client.send(request, arrivedNs);
      counts.done += 1;
      if (outcome.fault !== undefined) counts.failed += 1;
      return outcome;
    };
    const load = {
      requests,
      atSeconds: arrivalsOf(requests, this.#options),
      maxConcurrency: this.#maxConcurrency,
    };
    const stopShowing = this.#showProgress();
    try {
      return await drive(load, HOST_CLOCK, send);
    } finally {
      stopShowing();
    }
  }

  get #maxConcurrency(): number {
    return this.#options.values.maxConcurrency ?? Number.POSITIVE_INFINITY;
  }

  #showProgress(): () => void {
    if (this.#options.values.disableTqdm) return () => {};
    const startedNs = HOST_CLOCK.nowNs();
    const line = () =>
      progressLine({ ...this.#counts, seconds: (HOST_CLOCK.nowNs() - startedNs) / 1e9 });
    const { redraw } = this.#io;
    const stop =
      redraw === undefined
        ? HOST_CLOCK.every(LOG_SECONDS, () => this.#progress(line()))
        : HOST_CLOCK.every(REDRAW_SECONDS, () => redraw(line()));
    return () => {
      stop();
      redraw?.('');
      this.#progress(line());
    };
  }

  #save(saved: SavedRun): void {
    const { saveResult: isNew, appendResult: isAppended } = this.#options.values;
    if (!isNew && !isAppended) return;
    const path = resultPath(saved, this.#options);
    const before = isAppended ? this.#earlierResults(path) : '';
    const document = JSON.stringify(savedResult(saved, this.#options));
    this.#io.writeFile(path, `${before}${document}`);
    this.#progress(`saved as ${path}`);
  }

  /** What the file holds already, ended by a line break. */
  #earlierResults(path: string): string {
    try {
      const text = this.#io.readFile(path);
      return text === '' || text.endsWith('\n') ? text : `${text}\n`;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
      throw error;
    }
  }
}

function arrivalsOf(requests: readonly PreparedRequest[], options: ServeOptions): number[] {
  if (options.isSelfTimed) return requests.map(({ atSeconds }) => atSeconds ?? 0);
  const { seed, burstiness, requestRate: requestsPerSecond } = options.values;
  const draws = new Draws(seed, 'arrivals');
  return arrivalSeconds(requests.length, { requestsPerSecond, burstiness }, draws);
}
