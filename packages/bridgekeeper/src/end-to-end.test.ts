import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { cp, mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import {
  readReceiptLinks,
  readSignedReceipt,
  verifyReceipt,
  verifyReceiptChain,
} from '@bridgekeeper/attest';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LAUNCHER } from './launcher.ts';
import { type Served, STORYTELLER, serve as serveWith, stop } from './testing/served-product.ts';

/** What the product keeps between its runs, apart from the user's own. */
const STATE = mkdtempSync(join(tmpdir(), 'bridgekeeper-state-'));
const ENVIRONMENT = { ...process.env, XDG_STATE_HOME: STATE, HF_HOME: join(STATE, 'hf') };
afterAll(() => rmSync(STATE, { recursive: true, force: true }));
const serve = (...args: string[]) => serveWith(ENVIRONMENT, ...args);

interface Golden {
  readonly prompt: string;
  readonly text: string;
}
const golden = JSON.parse(readFileSync(join(STORYTELLER, 'golden.json'), 'utf8')) as Golden[];

const sha256Hex = (text: string) => createHash('sha256').update(text).digest('hex');

/** What is read here of an answer, or of a chunk of one. */
interface Reply {
  readonly choices: readonly {
    readonly text?: string;
    readonly delta?: { readonly content?: string };
    readonly message?: { readonly content: string };
    readonly finish_reason?: string | null;
  }[];
  readonly usage?: { readonly completion_tokens: number } | null;
}

const post = ({ url }: Served, path: string, body: object) =>
  fetch(`${url}/v1/${path}`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });

/** The chunks of a stream as they come; whoever reads no further cancels the request. */
async function* chunksOf({ body }: Response): AsyncGenerator<Reply> {
  let text = '';
  for await (const piece of body!.pipeThrough(new TextDecoderStream())) {
    const events = (text + piece).split('\n\n');
    text = events.pop()!;
    for (const event of events) {
      if (event.startsWith('data: {')) yield JSON.parse(event.slice(6));
    }
  }
}

interface BridgeReply {
  readonly law: { readonly name: string };
  readonly policy: { readonly name: string; readonly reason: string };
  readonly lanes: readonly { readonly kind: string; readonly crossings: number }[];
  readonly ledger: readonly {
    readonly purpose: string;
    readonly crossings: number;
    readonly busy_seconds: number;
  }[];
}

it('says what the README shows of it', async () => {
  const readme = readFileSync(new URL('../../../README.md', import.meta.url), 'utf8');
  const trust = readFileSync(new URL('../../../docs/concepts/trust.md', import.meta.url), 'utf8');
  const served = await serve(STORYTELLER);
  const asked = JSON.parse(/-d '(\{.*\})'/.exec(readme)![1]!);
  const { choices } = (await (await post(served, 'completions', asked)).json()) as Reply;
  expect(readme).toContain(`"text":${JSON.stringify(choices[0]!.text)}`);
  const bridge = (await (await fetch(`${served.url}/v1/bridge`)).json()) as {
    per_generated_token: object;
    ledger: readonly { purpose: string; direction: string; crossings: number; bytes: number }[];
  };
  expect(readme).toContain(`"per_generated_token":${JSON.stringify(bridge.per_generated_token)}`);
  for (const { purpose, direction, crossings, bytes } of bridge.ledger) {
    const shown = JSON.stringify({ purpose, direction, crossings, bytes }).slice(0, -1);
    // How a machine loads weights is its own.
    if (purpose !== 'weights') expect(readme).toContain(shown);
    else expect(readme).toMatch(new RegExp(`"weights","direction":"h2d",.*"bytes":${bytes}`));
  }
  const verify = spawnSync(process.execPath, [LAUNCHER, 'verify', served.url], {
    env: ENVIRONMENT,
    encoding: 'utf8',
  });
  const verdict = verify.stdout.slice(verify.stdout.indexOf('REFUSED under'));
  const shown = verdict.split('\n').slice(0, 5).join('\n');
  expect(shown).toMatch(/^REFUSED under .*\n {2}- SERVER: .*\n {2}- CPU: /);
  for (const page of [readme, trust]) expect(page).toContain(shown);
  await stop(served);
});

it('takes a command line of vLLM, with a model from the Hugging Face cache', async () => {
  // As its tools leave it: a snapshot of links to files elsewhere.
  const commit = '0123456789abcdef0123456789abcdef01234567';
  const entry = join(STATE, 'hf', 'hub', 'models--tiny--storyteller');
  const snapshot = join(entry, 'snapshots', commit);
  mkdirSync(snapshot, { recursive: true });
  mkdirSync(join(entry, 'refs'));
  writeFileSync(join(entry, 'refs', 'main'), commit);
  for (const name of readdirSync(STORYTELLER)) {
    symlinkSync(join(STORYTELLER, name), join(snapshot, name));
  }
  const vllm = '--tensor_parallel_size 1 --trust-remote-code --max_num_seqs=4 --api-key k1 k2';
  const served = await serve('--model', 'tiny/storyteller', ...vllm.split(' '));
  const headers = { Authorization: 'Bearer k2', 'Content-Type': 'application/json' };
  const models = await (await fetch(`${served.url}/v1/models`, { headers })).json();
  expect(models).toMatchObject({ data: [{ id: 'tiny/storyteller' }] });
  const body = '{"prompt": "a secret", "top_p": 7}';
  const refused = await fetch(`${served.url}/v1/completions`, { method: 'POST', headers, body });
  expect(refused.status).toBe(400);
  expect(await stop(served)).toBe(0);
  const log = served.log();
  expect(log.match(/--trust-remote-code changes nothing here/g)).toHaveLength(1);
  expect(log).toContain('a key on the command line is visible');
  expect(log).toMatch(/"error":"invalid_value".*POST \/v1\/completions 400/);
  expect(log).not.toMatch(/a secret|k2/);
});

describe('the served model', () => {
  let served: Served;
  beforeAll(async () => {
    served = await serve('--law', 'emulate:b300-cc');
  });
  afterAll(() => stop(served));

  it('streams the golden text', async () => {
    const { prompt, text } = golden[0]!;
    const wanted = { prompt, max_tokens: 64, temperature: 0, stream: true };
    let streamed = prompt;
    for await (const chunk of chunksOf(await post(served, 'completions', wanted))) {
      streamed += chunk.choices[0]?.text ?? '';
    }
    expect(streamed).toBe(text);
  });

  it('answers many at once as it answers each alone', async () => {
    const answer = async ({ prompt }: Golden) => {
      const body = { prompt, max_tokens: 64, temperature: 0 };
      const reply = await post(served, 'completions', body);
      return prompt + ((await reply.json()) as Reply).choices[0]!.text;
    };
    expect(await Promise.all(golden.map(answer))).toEqual(golden.map(({ text }) => text));
  });

  it('chats, with usage, and is cancelled without harm to others', async () => {
    const messages = [{ role: 'user', content: 'The old sailor looked out' }];
    const common = { messages, temperature: 0.8, seed: 1 };
    const long = { ...common, max_tokens: 400, stream: true };
    for await (const _ of chunksOf(await post(served, 'chat/completions', long))) break;
    const wanted = {
      ...common,
      max_tokens: 20,
      stream: true,
      stream_options: { include_usage: true },
    };
    let text = '';
    let total = 0;
    for await (const chunk of chunksOf(await post(served, 'chat/completions', wanted))) {
      text += chunk.choices[0]?.delta?.content ?? '';
      total = chunk.usage?.completion_tokens ?? total;
    }
    expect(text.length).toBeGreaterThan(10);
    expect(total).toBe(20);
    const again = await post(served, 'chat/completions', { ...common, max_tokens: 20 });
    expect(((await again.json()) as Reply).choices[0]!.message!.content).toBe(text);
  });

  it('samples what a request allows, never what it bans, and scores the prompt', async () => {
    const ask = async (fields: object) => {
      const response = await fetch(`${served.url}/v1/completions`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ prompt: golden[0]!.prompt, max_tokens: 8, seed: 1, ...fields }),
      });
      const body = (await response.json()) as {
        choices: { token_ids: number[]; prompt_logprobs: Record<string, object>[] }[];
      };
      return body.choices[0]!;
    };
    const allowed = [300, 301, 302];
    const held = await ask({ allowed_token_ids: allowed, return_token_ids: true });
    expect(held.token_ids).toHaveLength(8);
    for (const id of held.token_ids) expect(allowed).toContain(id);
    const greedy = { temperature: 0, return_token_ids: true };
    const free = (await ask(greedy)).token_ids;
    // 'the' and ' the', which nothing else could beat.
    const biased = { ...greedy, logit_bias: { 1061: 100, 263: 100 } };
    for (const id of (await ask(biased)).token_ids) expect([1061, 263]).toContain(id);
    const banned = await ask({ ...biased, bad_words: ['the'] });
    for (const id of banned.token_ids) expect([1061, 263]).not.toContain(id);
    const scored = await ask({ ...greedy, prompt_logprobs: 1 });
    expect(scored.token_ids).toEqual(free);
    expect(scored.prompt_logprobs[0]).toBeNull();
    for (const entry of scored.prompt_logprobs.slice(1)) {
      expect(Object.keys(entry).length).toBeGreaterThanOrEqual(1);
    }
  });

  it('accounts for the crossings, and keeps prompts out of log and metrics', async () => {
    const reply = await fetch(`${served.url}/v1/bridge`);
    const bridge = (await reply.json()) as BridgeReply;
    expect(bridge.law.name).toBe('b300-cc');
    const tokens = bridge.ledger.find((entry) => entry.purpose === 'tokens')!;
    // Under this law the policy is chosen that keeps the launching thread out of crossings: only
    // weights crossed by its lane.
    expect(bridge.policy).toMatchObject({ name: 'resident', reason: expect.stringMatching(/K =/) });
    const inline = bridge.lanes.find((lane) => lane.kind === 'inline')!;
    const weights = bridge.ledger.find((entry) => entry.purpose === 'weights')!;
    expect(inline.crossings).toBe(weights.crossings);
    expect(tokens.crossings).toBeGreaterThan(20);
    expect(tokens.busy_seconds).toBeGreaterThan(tokens.crossings * 20e-6);
    const metrics = await (await fetch(`${served.url}/metrics`)).text();
    expect(metrics).toMatch(/vllm:generation_tokens_total\{[^}]*\} [1-9]/);
    for (const text of [served.log(), metrics]) expect(text).not.toMatch(/sailor|Knightley/);
  });

  it('is measured by the serving benchmark, with every token counted', async () => {
    const load = ['--num-prompts', '6', '--random-input-len', '24', '--random-output-len', '12'];
    const pace = ['--max-concurrency', '3', '--num-warmups', '1', '--json'];
    const args = [LAUNCHER, 'bench', 'serve', '--base-url', served.url, ...load, ...pace];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const ended = once(child, 'close');
    const [out, progress] = await Promise.all([textOf(child.stdout), textOf(child.stderr)]);
    expect([(await ended)[0], progress]).toEqual([0, expect.stringContaining('6/6 requests')]);
    const [run] = JSON.parse(out).runs;
    expect(run.parameters).toMatchObject({ model: 'storyteller', concurrency: 3 });
    expect(run.metrics).toMatchObject({
      completedRequests: 6,
      failedRequests: 0,
      inputTokens: 6 * 24,
      outputTokens: 6 * 12,
    });
  });

  it('refuses bad requests without harm', async () => {
    const post = async (body: string) => {
      const headers = { 'Content-Type': 'application/json' };
      const reply = await fetch(`${served.url}/v1/completions`, { method: 'POST', headers, body });
      const { error } = (await reply.json()) as { error: unknown };
      return { status: reply.status, error };
    };
    const prompt = 'word '.repeat(2000);
    expect(await post('{"prompt": ')).toMatchObject({ status: 400 });
    expect(await post(JSON.stringify({ prompt }))).toMatchObject({
      status: 400,
      error: { code: 'context_length_exceeded' },
    });
    const absurd = { prompt: 'a', temperature: -1, max_tokens: 1e12, top_p: 'x' };
    expect((await post(JSON.stringify(absurd))).status).toBe(400);
    expect((await fetch(`${served.url}/health`)).status).toBe(200);
  });
});

describe('its life', () => {
  it('finishes open streams at SIGTERM and ends with 0', async () => {
    const served = await serve();
    const wanted = {
      prompt: 'It is a truth',
      max_tokens: 200,
      temperature: 0.8,
      stream: true,
      ignore_eos: true,
    };
    let ended: Promise<number | null> | undefined;
    let reason: string | null = null;
    for await (const chunk of chunksOf(await post(served, 'completions', wanted))) {
      ended ??= stop(served);
      reason = chunk.choices[0]?.finish_reason ?? reason;
    }
    expect(reason).toBe('length');
    expect(await ended).toBe(0);
  });

  it('asks for its key on everything but /health', async () => {
    const served = await serve('--api-key', 'secret');
    try {
      const status = async (path: string, key?: string) => {
        const headers = key === undefined ? {} : { Authorization: `Bearer ${key}` };
        return (await fetch(served.url + path, { headers })).status;
      };
      expect(await status('/health')).toBe(200);
      for (const path of ['/v1/models', '/metrics', '/version', '/v1/bridge', '/openapi.json']) {
        expect([path, await status(path), await status(path, 'wrong')]).toEqual([path, 401, 401]);
        expect(await status(path, 'secret')).toBe(200);
      }
    } finally {
      await stop(served);
    }
  });

  it('keeps receipts that verify after it was killed and started again', async () => {
    const receipts = join(STATE, 'killed.sqlite');
    const ask = async ({ url }: Served) => {
      const body = JSON.stringify({ prompt: 'Once upon a time', max_tokens: 5, stream: true });
      const headers = { 'Content-Type': 'application/json' };
      const reply = await fetch(`${url}/v1/completions`, { method: 'POST', headers, body });
      const sent = sha256Hex(await reply.text());
      const asked = sha256Hex(body);
      return { id: reply.headers.get('x-receipt-id')!, sent, asked };
    };
    const read = async ({ url }: Served, path: string) =>
      (await fetch(`${url}/v1/receipts/${path}`)).text();
    const first = await serve('--receipts', receipts);
    const before = await ask(first);
    // The key's document is answered after what was issued before it is written.
    const { public_key: key } = JSON.parse(await read(first, 'key'));
    first.child.kill('SIGKILL');
    await once(first.child, 'exit');
    const second = await serve('--receipts', receipts);
    try {
      const after = await ask(second);
      const held = [];
      for (const { id, sent, asked } of [before, after]) {
        const signed = readSignedReceipt(await read(second, id));
        await verifyReceipt(signed, key);
        expect(signed.receipt).toMatchObject({
          requestSha256: asked,
          responseSha256: sent,
          outcome: 'complete',
          law: 'off',
          tokens: { generated: 5 },
        });
        const { entries } = signed.receipt.crossings;
        expect(entries.map(({ purpose }) => purpose).sort()).toEqual(['command', 'tokens']);
        held.push(signed);
      }
      const links = readReceiptLinks(await read(second, 'links'));
      expect(links.digests).toHaveLength(2);
      await verifyReceiptChain(links, held, key);
    } finally {
      await stop(second);
    }
  });

  it('refuses a broken model folder with code 2 and says what is wrong', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-broken-'));
    try {
      await cp(STORYTELLER, folder, { recursive: true });
      await truncate(join(folder, 'model.safetensors'), 1_000_000);
      const child = spawn(process.execPath, [LAUNCHER, 'serve', folder, '--port', '0'], {
        stdio: ['ignore', 'ignore', 'pipe'],
        env: ENVIRONMENT,
      });
      let log = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        log += text;
      });
      const [code] = await once(child, 'close');
      expect(code).toBe(2);
      expect(log).toMatch(/model\.safetensors/);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe.runIf(existsSync('/dev/full'))('an output that takes nothing', () => {
  const run = (stdio: readonly [number | 'pipe', number | 'pipe']) =>
    spawnSync(process.execPath, [LAUNCHER, 'version'], { stdio: ['ignore', ...stdio] });

  it('is told in one line, and is a failure', () => {
    const { status, stderr } = run([openSync('/dev/full', 'w'), 'pipe']);
    expect(stderr.toString()).toBe('bridgekeeper: cannot write to standard output (ENOSPC)\n');
    expect(status).toBe(1);
  });

  it('is none where only messages are lost', () => {
    const { status, stdout } = run(['pipe', openSync('/dev/full', 'w')]);
    expect(stdout.toString()).toMatch(/^bridgekeeper \d/);
    expect(status).toBe(0);
    const full = openSync('/dev/full', 'w');
    expect(run([full, full]).status).toBe(1);
  });
});
