import {
  BenchError,
  drive,
  type Outcome,
  ServeClient,
  type WrittenRequest,
} from '@bridgekeeper/bench';
import {
  DEFAULT_FLAGS,
  type EngineName,
  type Explanation,
  enginesOf,
  explainSteps,
  fitSteps,
  type ObservedLoad,
  type Scenario,
  type StepFit,
  simulate,
} from '@bridgekeeper/planner';
import { Draws } from '@bridgekeeper/planner/workload';
import { columns, duration, quantile, threeDigits } from '@bridgekeeper/report';
import { UsageError, type Values } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';
import type { OBSERVE_FLAGS } from './flags.ts';
import { chooseGpu, chooseLaws, readModel } from './inputs.ts';

type Flags = Values<typeof OBSERVE_FLAGS>;

/** What was seen of a server, and what it comes to. */
interface Observation {
  readonly version: string;
  readonly server: string;
  /** What it was said to be. */
  readonly engine: string;
  readonly loads: readonly ObservedLoad[];
  readonly fit: StepFit;
  /** null: nothing was said of the machine. */
  readonly explanation: Explanation | null;
}

/** Resolves to the exit code. Throws UsageError, PlanError, or BenchError: no server answers. */
export async function runObserve(flags: Flags, io: CliIo): Promise<0> {
  const predicted = predictedBy(flags, io);
  const observer = new Observer(flags, io);
  try {
    const loads = await observer.run();
    const predictions = predicted === null ? [] : await predict(predicted, loads);
    const observation: Observation = {
      version: readVersion().version,
      server: observer.origin,
      engine: flags.engine,
      loads,
      fit: fitSteps(loads),
      explanation: predicted === null ? null : explainSteps(loads, predictions),
    };
    const document = JSON.stringify(observation, null, 1);
    if (flags.out !== undefined) io.writeFile(flags.out, `${document}\n`);
    io.out(flags.json ? document : linesOf(observation).join('\n'));
    return 0;
  } finally {
    observer.close();
  }
}

/** What it takes to predict the same loads; null where neither model nor GPU was said. */
function predictedBy(
  flags: Flags,
  io: CliIo,
): Pick<Scenario, 'model' | 'gpu' | 'law' | 'engine'> | null {
  if (flags.model === undefined && flags.gpu === undefined) return null;
  const gpu = chooseGpu(flags.gpu);
  const model = readModel(flags.model, io);
  const [law = null] = chooseLaws([flags.law], gpu);
  const [engine] = enginesOf([flags.engine]);
  return { model, gpu, law, engine: engine as EngineName };
}

/** Simulates the loads that were observed, each with the lengths that the server counted. */
async function predict(
  given: Pick<Scenario, 'model' | 'gpu' | 'law' | 'engine'>,
  loads: readonly ObservedLoad[],
) {
  const predictions = [];
  for (const { concurrency, requests, promptTokensMean, outputTokensMean } of loads) {
    const [promptTokens, outputTokens] = [promptTokensMean, outputTokensMean].map(Math.round);
    const request = {
      atNs: 0,
      promptTokens: promptTokens!,
      outputTokens: outputTokens!,
      chunks: null,
      tenant: 'observed',
    };
    const workload = {
      name: `${concurrency} at a time`,
      concurrency,
      chunkTokens: 64,
      requests: new Array<typeof request>(requests).fill(request),
    };
    const maxModelTokens = Math.min(given.model.spec.maxPositions, DEFAULT_FLAGS.maxModelTokens);
    const flags = { ...DEFAULT_FLAGS, maxModelTokens };
    const scenario = { ...given, flags, workload, slo: null, stepFactor: 1, window: null, seed: 0 };
    predictions.push(await simulate({ ...scenario, warmupRequests: 0 }));
  }
  return predictions;
}

/** Closed loops of a few requests, one after the other. */
class Observer {
  readonly origin: string;
  readonly #flags: Flags;
  readonly #io: CliIo;
  readonly #client: ServeClient;
  readonly #base: string;
  #model = '';
  /** Whether the server takes what keeps answers from ending early. */
  #ignoresEnd = true;
  #sent = 0;

  constructor(flags: Flags, io: CliIo) {
    this.#flags = flags;
    this.#io = io;
    this.#base = flags.url.replace(/\/+$/, '').replace(/\/v1$/, '');
    const address = `${this.#base}/v1/${flags.chat ? 'chat/completions' : 'completions'}`;
    if (!/^https?:\/\//i.test(address) || !URL.canParse(address)) {
      throw new UsageError(
        'bad-value',
        `${flags.url}: must be the http or https address of a server`,
      );
    }
    const url = new URL(address);
    this.origin = url.origin;
    const key = io.environment.OPENAI_API_KEY;
    this.#client = new ServeClient(
      {
        url,
        headers: key === undefined ? {} : { Authorization: `Bearer ${key}` },
        silenceSeconds: flags.timeout,
        insecure: flags.insecure,
        quotesErrors: true,
      },
      HOST_CLOCK,
      () => {},
    );
  }

  close(): void {
    this.#client.close();
  }

  /** Throws BenchError where there is no server, or one that answers nothing. */
  async run(): Promise<readonly ObservedLoad[]> {
    this.#model = this.#flags.servedModelName ?? (await this.#askModel());
    await this.#warmUp();
    const loads: ObservedLoad[] = [];
    for (const concurrency of this.#flags.concurrency) {
      const load = await this.#measure(concurrency);
      loads.push(load);
      this.#io.err(
        `observe: ${concurrency} at a time: ${duration(load.stepNs)} a token, first after ` +
          `${duration(load.firstTokenNs)}`,
      );
    }
    return loads;
  }

  async #askModel(): Promise<string> {
    const url = new URL(`${this.#base}/v1/models`);
    const { document, fault } = await this.#client.get(url);
    const id = (document as { data?: { id?: unknown }[] } | null | undefined)?.data?.[0]?.id;
    if (typeof id === 'string') return id;
    const reason = fault ?? 'it lists no model';
    throw new BenchError('unreachable', `cannot ask ${url} for its model: ${reason}`);
  }

  /** Also finds out what the server takes. */
  async #warmUp(): Promise<void> {
    let outcome = await this.#send();
    if (outcome.fault !== undefined && /^HTTP 4/.test(outcome.fault.reason)) {
      this.#ignoresEnd = false;
      outcome = await this.#send();
    }
    const { fault } = outcome;
    if (fault === undefined) return;
    const said = fault.detail === undefined ? fault.reason : `${fault.reason}: ${fault.detail}`;
    throw new BenchError(
      'not-ready',
      `${this.origin} does not answer as OpenAI’s API does: ${said}`,
    );
  }

  #send(): Promise<Outcome> {
    return this.#client.send(this.#request(), HOST_CLOCK.nowNs());
  }

  async #measure(concurrency: number): Promise<ObservedLoad> {
    const count = Math.max(REQUESTS_MIN, TURNS * concurrency);
    const requests = Array.from({ length: count }, () => this.#request());
    const atSeconds = new Array<number>(count).fill(0);
    const run = await drive(
      { requests, atSeconds, maxConcurrency: concurrency },
      HOST_CLOCK,
      (one, at) => this.#client.send(one, at),
    );
    const done = run.outcomes.filter(
      ({ fault, chunkNs }) => fault === undefined && chunkNs.length > 1,
    );
    if (done.length === 0) {
      const reason = run.outcomes.find(({ fault }) => fault !== undefined)?.fault?.reason;
      const message = `${concurrency} at a time: no request brought a stream of tokens`;
      throw new BenchError('not-ready', reason === undefined ? message : `${message}: ${reason}`);
    }
    const tokens = done.map((outcome) => outcome.completionTokens ?? outcome.chunkNs.length);
    const mean = (values: readonly number[]) =>
      values.reduce((sum, value) => sum + value, 0) / values.length;
    const median = (values: readonly number[]) =>
      quantile(
        values.toSorted((a, b) => a - b),
        0.5,
      );
    return {
      concurrency,
      requests: count,
      failed: count - done.length,
      promptTokensMean: mean(
        done.map(({ promptTokens }) => promptTokens ?? this.#flags.promptTokens),
      ),
      outputTokensMean: mean(tokens),
      stepNs: median(
        done.map(({ chunkNs }, index) => (chunkNs.at(-1)! - chunkNs[0]!) / (tokens[index]! - 1)),
      ),
      firstTokenNs: median(done.map(({ chunkNs, startedNs }) => chunkNs[0]! - startedNs)),
      outputTokensPerSecond: (mean(tokens) * done.length * 1e9) / run.durationNs,
    };
  }

  /** A prompt of words that no other has, so that no cache has it. */
  #request(): WrittenRequest {
    const { promptTokens, outputTokens, chat } = this.#flags;
    const number = this.#sent++;
    const draws = new Draws(0, 'prompt', number);
    const words = Array.from({ length: Math.ceil(promptTokens / TOKENS_OF_A_WORD) }, () => {
      return draws.pick(WORDS);
    });
    const text = words.join(' ');
    const question = chat
      ? { messages: [{ role: 'user', content: text }], max_completion_tokens: outputTokens }
      : { prompt: text, max_tokens: outputTokens };
    const body = {
      model: this.#model,
      ...question,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
      ...(this.#ignoresEnd ? { ignore_eos: true } : {}),
    };
    return {
      id: `observe-${number}`,
      body: Buffer.from(JSON.stringify(body)),
      promptTokens: undefined,
    };
  }
}

const TURNS = 2;
const REQUESTS_MIN = 4;
/** Most tokenizers have these as one token each, with the space before it. */
const WORDS = 'river house morning letter garden winter market bridge window paper'.split(' ');
const TOKENS_OF_A_WORD = 1;

function linesOf({ server, loads, fit, explanation }: Observation): string[] {
  const rows = loads.map((load, index) => {
    const explained = explanation?.loads[index];
    return [
      String(load.concurrency),
      `${threeDigits(load.promptTokensMean)} + ${threeDigits(load.outputTokensMean)}`,
      duration(load.firstTokenNs),
      duration(load.stepNs),
      threeDigits(load.outputTokensPerSecond),
      ...(explained === undefined
        ? [`${threeDigits(100 * fit.residuals[index]!)} %`]
        : [duration(explained.machineNs), duration(explained.unexplainedNs)]),
    ];
  });
  const heads = ['at a time', 'tokens', 'first token', 'a token', 'tokens/s'];
  const more = explanation === null ? ['off the line'] : ['predicted without host', 'unexplained'];
  const failed = loads.reduce((sum, load) => sum + load.failed, 0);
  return [
    `${server}`,
    ...columns([[...heads, ...more], ...rows]),
    '',
    `A step takes ${duration(fit.fixedNs)}, and ${duration(fit.perRowNs)} more for each request.`,
    ...(explanation === null
      ? ['With --model and --gpu it is said what of that is the host’s.']
      : [
          `The host’s own work is ${duration(explanation.hostNs)} of it; the prediction had ` +
            `${duration(explanation.predictedHostNs)}. At most ` +
            `${threeDigits(100 * Math.abs(explanation.worstPart))} % of a step remain unexplained.`,
        ]),
    ...(failed === 0 ? [] : [`! ${failed} requests failed and count for nothing`]),
  ];
}
