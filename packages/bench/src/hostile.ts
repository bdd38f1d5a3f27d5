import { Agent, request } from 'node:http';
import { type MeasuredRun, summarise } from '@bridgekeeper/report';
import { flag, integer } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { SseServerProcess } from './sse.ts';
import type { Suite } from './suite.ts';

const FLAGS = {
  atOnce: flag(integer(1, 256), 1, 'equal bodies sent at a time'),
  repeats: flag(integer(1, 100), 3, 'measured passes, after one that warms'),
};

const CHAT = '/v1/chat/completions';
const COMPLETIONS = '/v1/completions';

/** What a long context takes; as many as models of today have. */
const CONTEXT_TOKENS = 2 ** 17;
/** A little less than the largest body. */
const LARGEST_BYTES = 16_700_000;

interface HostileBody {
  readonly what: string;
  readonly path: string;
  /** undefined: nothing is sent. */
  readonly make?: () => string;
}

const many = (what: string, bytes: number) =>
  Array(Math.floor(bytes / (what.length + 1)))
    .fill(what)
    .join(',');
const chat = (message: object, count = 1) =>
  JSON.stringify({ max_tokens: 1, messages: Array(count).fill(message) });

const BODIES: readonly HostileBody[] = [
  { what: 'none', path: '/health' },
  {
    what: 'prompt of empty objects, 3 MB',
    path: COMPLETIONS,
    make: () => `{"prompt":[${many('{}', 3e6)}]}`,
  },
  {
    what: 'prompt of empty objects, 16 MB',
    path: COMPLETIONS,
    make: () => `{"prompt":[${many('{}', LARGEST_BYTES)}]}`,
  },
  {
    what: 'messages of numbers, 16 MB',
    path: CHAT,
    make: () => `{"messages":[${many('1', LARGEST_BYTES)}]}`,
  },
  {
    what: 'content of numbers, 60,000',
    path: CHAT,
    make: () => chat({ role: 'user', content: Array(60_000).fill(1) }),
  },
  {
    what: 'a million token ids',
    path: COMPLETIONS,
    make: () => `{"prompt":[${many('12', 3e6)}]}`,
  },
  {
    what: '256 prompts of 4000 token ids',
    path: COMPLETIONS,
    make: () => `{"max_tokens":1,"prompt":[${many(`[${many('12', 12_000)}]`, 3_070_000)}]}`,
  },
  {
    what: 'detokenize a million ids',
    path: '/detokenize',
    make: () => `{"tokens":[${many('12', 3e6)}]}`,
  },
  {
    what: 'detokenize 100,000 ids',
    path: '/detokenize',
    make: () => `{"tokens":[${many('1234', 5e5)}]}`,
  },
  {
    what: 'stop ids and biases, 50,000 each, n = 128',
    path: COMPLETIONS,
    make: () =>
      JSON.stringify({
        prompt: 'x',
        n: 128,
        stop_token_ids: Array(50_000).fill(1),
        logit_bias: { ...Array(50_000).fill(1) },
      }),
  },
  {
    what: 'a stop text of 1 MB, n = 128',
    path: COMPLETIONS,
    make: () => JSON.stringify({ prompt: 'x', n: 128, stop: 'x'.repeat(1e6) }),
  },
  {
    what: 'nested 8 million deep',
    path: CHAT,
    make: () => '['.repeat(8e6),
  },
  {
    what: '4096 messages without a role',
    path: CHAT,
    make: () => chat({ content: 'x' }, 4096),
  },
  {
    what: '4096 messages',
    path: CHAT,
    make: () => chat({ role: 'user', content: 'x' }, 4096),
  },
  {
    what: 'tools of 60,000 values',
    path: CHAT,
    make: () =>
      JSON.stringify({
        max_tokens: 1,
        messages: [{ role: 'user', content: 'x' }],
        tools: Array(30).fill({ parameters: Array(2000).fill(1) }),
      }),
  },
  {
    what: '60,000 unknown keys',
    path: CHAT,
    make: () =>
      JSON.stringify({
        max_tokens: 1,
        messages: [{ role: 'user', content: 'x' }],
        ...Object.fromEntries(Array.from({ length: 60_000 }, (_, at) => [`k${at}`, at])),
      }),
  },
  {
    what: 'a message of 16 MB',
    path: CHAT,
    make: () => chat({ role: 'user', content: 'sea '.repeat(LARGEST_BYTES / 4) }),
  },
  {
    what: 'a prompt of 16 MB',
    path: COMPLETIONS,
    make: () => JSON.stringify({ prompt: 'sea '.repeat(LARGEST_BYTES / 4) }),
  },
  {
    what: 'a message of 16 MB, not of ASCII',
    path: CHAT,
    make: () => chat({ role: 'user', content: '海は'.repeat(LARGEST_BYTES / 6) }),
  },
  {
    what: 'a seed of 20 digits, a prompt of 16 MB',
    path: COMPLETIONS,
    make: () => `{"seed":12345678901234567890,"prompt":"${'sea '.repeat(LARGEST_BYTES / 4)}"}`,
  },
  {
    what: '130,000 token ids, n = 128',
    path: COMPLETIONS,
    make: () => `{"max_tokens":1,"n":128,"prompt":[${many('12', 390_000)}]}`,
  },
  {
    what: '32,000 template variables',
    path: CHAT,
    make: () =>
      JSON.stringify({
        max_tokens: 1,
        messages: [{ role: 'user', content: 'x' }],
        chat_template_kwargs: Object.fromEntries(
          Array.from({ length: 32_000 }, (_, at) => [`k${at}`, at]),
        ),
      }),
  },
  {
    what: '256 prompts of 2000 characters',
    path: COMPLETIONS,
    make: () => JSON.stringify({ max_tokens: 1, prompt: Array(256).fill('sea '.repeat(500)) }),
  },
];

/** How long `/health` is silent while bodies are read that were made to take long. */
export const HOSTILE_SUITE: Suite<typeof FLAGS> = {
  name: 'hostile',
  summary: 'the longest silence of /health while the server is sent hostile bodies',
  flags: FLAGS,
  run: async ({ atOnce, repeats }, progress) => {
    const options = { rows: 8, tokens: CONTEXT_TOKENS, tokensPerStep: 1, stepMicroseconds: 400 };
    const server = await SseServerProcess.start(options);
    const runs: MeasuredRun[] = [];
    try {
      for (const body of BODIES) {
        const run = await measure(server.port, body, atOnce, repeats);
        progress(`${body.what}: ${run.metrics.longestSilenceMs!.toFixed(1)} ms`);
        runs.push(run);
      }
    } finally {
      server.stop();
    }
    return { device: { name: 'stub', driver: null }, runs };
  },
};

async function measure(
  port: number,
  { what, path, make }: HostileBody,
  atOnce: number,
  repeats: number,
): Promise<MeasuredRun> {
  const body = Buffer.from(make?.() ?? '');
  const passes: MeasuredRun['metrics'][] = [];
  let status = 0;
  for (let repeat = 0; repeat <= repeats; repeat++) {
    const pulse = new Pulse(port);
    const send = () => (make === undefined ? rest(1) : post(port, path, body));
    const statuses = await Promise.all(Array.from({ length: atOnce }, send));
    status = statuses[0]!;
    // What a body leaves behind shows a little later.
    await rest(0.2);
    const longestSilenceMs = await pulse.stop();
    if (repeat > 0) passes.push({ longestSilenceMs });
  }
  return summarise({ what, bytes: body.length, atOnce, status }, passes);
}

const rest = (seconds: number) =>
  new Promise<number>((resolve) => HOST_CLOCK.after(seconds, () => resolve(0)));

/** Asks `/health` again as soon as it has answered. */
class Pulse {
  readonly #port: number;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });
  readonly #ended: Promise<void>;
  #longestNs = 0;
  #isStopped = false;

  constructor(port: number) {
    this.#port = port;
    this.#ended = this.#beat();
  }

  /** Resolves to the longest wait for an answer, in milliseconds. */
  async stop(): Promise<number> {
    this.#isStopped = true;
    await this.#ended;
    this.#agent.destroy();
    return this.#longestNs / 1e6;
  }

  async #beat(): Promise<void> {
    while (!this.#isStopped) {
      const askedNs = HOST_CLOCK.nowNs();
      await ask({ port: this.#port, path: '/health', agent: this.#agent });
      this.#longestNs = Math.max(this.#longestNs, HOST_CLOCK.nowNs() - askedNs);
    }
  }
}

function post(port: number, path: string, body: Buffer): Promise<number> {
  const headers = { 'Content-Type': 'application/json', 'Content-Length': body.length };
  return ask({ port, path, method: 'POST', headers }, body);
}

/** Resolves to the status, once the answer has ended. */
function ask(options: object, body?: Buffer): Promise<number> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', ...options }, (reply) => {
      reply.on('error', reject);
      reply.on('end', () => resolve(reply.statusCode!));
      reply.resume();
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
