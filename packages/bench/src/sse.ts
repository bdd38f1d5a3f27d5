import { fork } from 'node:child_process';
import { connect, type Socket } from 'node:net';
import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import { flag, integer } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { SseServerMessage, SseServerOptions } from './sse-server.ts';
import type { Suite } from './suite.ts';

/** What one pass over all streams gave. */
interface Pass {
  readonly tokens: number;
  readonly seconds: number;
  readonly bytes: number;
  readonly events: number;
  /** CPU time of the server's process during the pass. */
  readonly serverCpuSeconds: number;
}

const FLAGS = {
  streams: flag(integer(1, 4096), 64, 'streams at a time'),
  tokens: flag(integer(1, 1e6), 2000, 'tokens of a stream'),
  tokensPerStep: flag(integer(1, 1024), 1, 'tokens of one event'),
  stepUs: flag(integer(0, 1e6), 400, 'microseconds between steps; 0: no pause'),
  repeats: flag(integer(1, 100), 3, 'measured passes, after one that warms'),
};

/**
 * Tokens a second through HTTP alone: an engine that has its tokens ready, the real server in a
 * process of its own, and a client in this one that reads `streams` answers at a time.
 */
export const SSE_SUITE: Suite<typeof FLAGS> = {
  name: 'sse',
  summary:
    'streamed tokens a second of the HTTP server, against an engine that emits made-up tokens',
  flags: FLAGS,
  run: async ({ streams, tokens, tokensPerStep, stepUs, repeats }, progress) => {
    const options = { rows: streams, tokens, tokensPerStep, stepMicroseconds: stepUs };
    const run = await measure(options, streams, repeats, progress);
    return { device: { name: 'stub', driver: null }, runs: [run] };
  },
};

async function measure(
  options: SseServerOptions,
  streams: number,
  repeats: number,
  progress: (line: string) => void,
): Promise<MeasuredRun> {
  const server = await SseServerProcess.start(options);
  try {
    const passes: MeasuredRun['metrics'][] = [];
    for (let repeat = 0; repeat <= repeats; repeat++) {
      const pass = metricsOf(await runPass(server, streams, options.tokens));
      progress(`pass ${repeat}: ${Math.round(pass.tokensPerSecond!)} tokens/s`);
      if (repeat > 0) passes.push(pass);
    }
    const { tokens, tokensPerStep, stepMicroseconds } = options;
    const parameters = { streams, tokensPerStream: tokens, tokensPerStep, stepMicroseconds };
    return summarise(parameters, passes);
  } finally {
    server.stop();
  }
}

function metricsOf(pass: Pass): MeasuredRun['metrics'] {
  const { tokens, seconds, bytes, events, serverCpuSeconds } = pass;
  return {
    tokensPerSecond: tokens / seconds,
    tokensPerServerCpuSecond: tokens / serverCpuSeconds,
    serverCores: serverCpuSeconds / seconds,
    eventsPerToken: events / tokens,
    bytesPerToken: bytes / tokens,
  };
}

async function runPass(server: SseServerProcess, streams: number, tokens: number): Promise<Pass> {
  const cpuBefore = await server.cpuSeconds();
  const startedNs = HOST_CLOCK.nowNs();
  const answers = await Promise.all(
    Array.from({ length: streams }, () => readStream(server.port, tokens)),
  );
  const seconds = (HOST_CLOCK.nowNs() - startedNs) / 1e9;
  const serverCpuSeconds = (await server.cpuSeconds()) - cpuBefore;
  const sum = (of: (answer: Answer) => number) =>
    answers.reduce((total, each) => total + of(each), 0);
  return {
    tokens: sum((answer) => answer.tokens),
    bytes: sum((answer) => answer.bytes),
    events: sum((answer) => answer.events),
    seconds,
    serverCpuSeconds,
  };
}

interface Answer {
  readonly tokens: number;
  readonly bytes: number;
  readonly events: number;
}

/**
 * A client that does next to nothing, so that the server is what is measured: counts events, reads
 * the usage.
 */
function readStream(port: number, tokens: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(port, '127.0.0.1');
    let bytes = 0;
    let events = 0;
    let tail = '';
    socket.on('data', (chunk: Buffer) => {
      bytes += chunk.length;
      for (let at = chunk.indexOf('data: '); at >= 0; at = chunk.indexOf('data: ', at + 6)) {
        events += 1;
      }
      tail = (tail + chunk.toString('latin1', Math.max(0, chunk.length - 600))).slice(-600);
      if (tail.includes('data: [DONE]')) socket.end();
    });
    socket.once('error', reject);
    socket.once('close', () => {
      const count = Number(/"completion_tokens":(\d+)/.exec(tail)?.[1]);
      if (count === tokens) resolve({ tokens: count, bytes, events });
      else reject(new Error(`a stream ended after ${count} of ${tokens} tokens`));
    });
    socket.write(requestOf(tokens));
  });
}

function requestOf(tokens: number): string {
  const body = JSON.stringify({
    prompt: 'The sea was calm that morning, and nobody spoke.',
    max_tokens: tokens,
    ignore_eos: true,
    stream: true,
    stream_options: { include_usage: true },
  });
  const head = [
    'POST /v1/completions HTTP/1.1',
    'Host: localhost',
    'Content-Type: application/json',
  ];
  return `${head.join('\r\n')}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
}

/** The server of the suite, in a process of its own. */
export class SseServerProcess {
  readonly port: number;
  readonly #child: ReturnType<typeof fork>;

  private constructor(child: ReturnType<typeof fork>, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(options: SseServerOptions): Promise<SseServerProcess> {
    const child = fork(new URL('./sse-server.js', import.meta.url), [JSON.stringify(options)]);
    const message = await next(child);
    if (message.kind !== 'listening') throw new Error('the server did not start');
    return new SseServerProcess(child, message.port);
  }

  async cpuSeconds(): Promise<number> {
    const reply = next(this.#child);
    this.#child.send('cpu');
    const message = await reply;
    if (message.kind !== 'cpu') throw new Error('the server said something else');
    return message.seconds;
  }

  stop(): void {
    this.#child.kill();
  }
}

function next(child: ReturnType<typeof fork>): Promise<SseServerMessage> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null) => reject(new Error(`the server ended with code ${code}`));
    child.once('exit', ended);
    child.once('message', (message) => {
      child.off('exit', ended);
      resolve(message as SseServerMessage);
    });
  });
}
