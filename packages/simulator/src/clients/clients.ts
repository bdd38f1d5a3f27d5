import { VOCABULARY } from '../product/model.ts';
import type { ServerProcess } from '../product/server-process.ts';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import { Random } from '../world/random.ts';
import { ClientConnection, type ResponseHead, type ResponseListener } from './http.ts';
import { expectedTokens, type TokenRequest } from './oracle.ts';

/** How a client behaves. */
export const CLIENT_KINDS = ['plain', 'slow', 'vanishing', 'hostile'] as const;
export type ClientKind = (typeof CLIENT_KINDS)[number];

/** What became of a request. */
export const OUTCOMES = ['complete', 'failed', 'cut', 'refused', 'unreachable'] as const;

/** A receipt that was handed out, and what it should say. */
export interface HandedReceipt {
  readonly id: string;
  readonly key: string;
  /** The server that answered, where it is known. */
  readonly host: string;
  readonly generated: number;
  /** It was seen kept. */
  isKept: boolean;
  document: string | null;
}

export interface LoadOptions {
  readonly requests: number;
  readonly clients: number;
  readonly kinds: readonly ClientKind[];
  readonly keys: readonly string[];
  /** Where to, by turns. */
  readonly targets: readonly { readonly host: string; readonly port: number }[];
  readonly thinkNs: number;
  readonly outputMax: number;
  /** Of requests, so many may ask for that much; the others ask for a few tokens. */
  readonly longShare: number;
  readonly promptMax: number;
  /** Whether errors for want of room are to be expected. */
  readonly hasLimits: boolean;
  /** Nothing happens that could cost an answer. */
  readonly isPeaceful: boolean;
  /** What servers have as `--stall-timeout`. */
  readonly stallNs: number;
  /** No connection ends on its way. */
  readonly hasWholePaths: boolean;
  /** Servers store pages: clients come back to what they asked for long ago, several at once. */
  readonly hasReturns: boolean;
}

const RETRY_NS = 200e6;
const SHORT_TOKENS = 8;
/** A client that hears nothing for so long leaves. */
const PATIENCE_NS = 120e9;

/** All clients: they send so many requests, one after the other each, and look at every answer. */
export class Load {
  readonly world: World;
  readonly options: LoadOptions;
  readonly receipts: HandedReceipt[] = [];
  readonly counts = { sent: 0, complete: 0, failed: 0, cut: 0, refused: 0, unreachable: 0 };
  /** By server: requests that are open. */
  open = 0;
  readonly #prefixes: readonly (readonly number[])[];
  /** So many begin as the last one did: requests alike meet each other. */
  readonly #echoShare: number;
  #lastPrefix: readonly number[] = [];
  readonly #returns: Returns | null;

  constructor(world: World, options: LoadOptions, random: Random) {
    this.world = world;
    this.options = options;
    // Few stay where they are; many make each other give way, and come back.
    this.#prefixes = Array.from({ length: random.of([4, 12, 40]) }, () =>
      Array.from({ length: random.between(16, 80) }, () => random.between(1, VOCABULARY - 1)),
    );
    this.#echoShare = random.of([0, 0.6]);
    this.#returns = options.hasReturns ? new Returns(new Random(world.seed, 'returns')) : null;
    for (let index = 0; index < options.clients; index++) {
      const client = new Client(this, index);
      client.begin();
    }
  }

  get isDone(): boolean {
    return this.counts.sent >= this.options.requests && this.open === 0;
  }

  /** A prompt, often with a beginning that others have, too. */
  prompt(random: Random, key: string): number[] {
    const own = Array.from({ length: random.between(1, this.options.promptMax) }, () =>
      random.between(1, VOCABULARY - 1),
    );
    if (!random.chance(0.6)) return own;
    const isEcho = this.#lastPrefix.length > 0 && random.chance(this.#echoShare);
    this.#lastPrefix = isEcho ? this.#lastPrefix : random.of(this.#prefixes);
    return [...(this.#returns?.next(key, this.#lastPrefix) ?? this.#lastPrefix), ...own];
  }
}

/** Of requests with a beginning that others have, so many begin a return to an earlier one. */
const RETURN_SHARE = 0.3;
/** By then, what was asked for may be in stores alone. */
const RETURN_AGE = 3;
/** Requests that come back together: the second may find what is on its way for the first. */
const RETURNING = 3;

/** Beginnings of prompts that clients of one key come back to, several of them at once. */
class Returns {
  readonly #random: Random;
  readonly #byKey = new Map<string, { readonly earlier: (readonly number[])[]; left: number }>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** In place of `prefix`, with which a request of this key would begin. */
  next(key: string, prefix: readonly number[]): readonly number[] {
    const state = this.#byKey.get(key) ?? { earlier: [], left: 0 };
    this.#byKey.set(key, state);
    const { earlier } = state;
    if (state.left > 0) {
      state.left -= 1;
      return earlier.at(-1)!;
    }
    const old = earlier.slice(0, -RETURN_AGE);
    const returns = old.length > 0 && this.#random.chance(RETURN_SHARE);
    if (returns) state.left = RETURNING - 1;
    earlier.push(returns ? this.#random.of(old) : prefix);
    return earlier.at(-1)!;
  }
}

/** Answers that say that the server cannot now. */
const NOT_NOW = new Set([429, 499, 500, 502, 503, 504]);

class Client {
  readonly #load: Load;
  readonly #kind: ClientKind;
  readonly #key: string;
  readonly #life: Life;
  readonly #random: Random;
  readonly #name: string;
  #connection: ClientConnection | null = null;
  #target: { readonly host: string; readonly port: number };

  constructor(load: Load, index: number) {
    const { world, options } = load;
    this.#load = load;
    this.#kind = options.kinds[index % options.kinds.length]!;
    world.judge.reached(`client: ${this.#kind}`);
    this.#key = options.keys[index % options.keys.length]!;
    this.#name = `c${index}`;
    this.#life = world.newLife(this.#name, 'clients');
    this.#random = this.#life.random;
    this.#target = this.#random.of(options.targets);
  }

  begin(): void {
    this.#later(this.#random.below(this.#load.options.thinkNs + 1));
  }

  #later(delayNs: number): void {
    this.#life.at(this.#load.world.loop.nowNs + delayNs, () => this.#next());
  }

  #next(): void {
    const { counts, options } = this.#load;
    if (counts.sent >= options.requests) {
      this.#connection?.close();
      this.#connection = null;
      return;
    }
    if (this.#kind === 'hostile' && this.#random.chance(0.7)) {
      this.#attack();
      return;
    }
    counts.sent += 1;
    this.#load.open += 1;
    new Call(this, this.#load, this.#life, this.#random, `${this.#name}.${counts.sent}`).send();
  }

  get kind(): ClientKind {
    return this.#kind;
  }

  get key(): string {
    return this.#key;
  }

  get target() {
    return this.#target;
  }

  connection(): ClientConnection {
    const { world, options } = this.#load;
    if (this.#connection?.isFree === true && this.#random.chance(0.9)) return this.#connection;
    this.#connection?.close();
    this.#target = this.#random.of(options.targets);
    const { host, port } = this.#target;
    const windowBytes = this.#kind === 'slow' ? 512 : undefined;
    this.#connection = new ClientConnection(world.network, this.#life, host, port, windowBytes);
    return this.#connection;
  }

  /** A request has ended. */
  done(isWell: boolean): void {
    this.#load.open -= 1;
    const { thinkNs } = this.#load.options;
    this.#later(isWell ? this.#random.below(thinkNs + 1) : RETRY_NS + this.#random.below(RETRY_NS));
  }

  leave(): void {
    this.#connection?.close();
    this.#connection = null;
  }

  /** Sends what nobody should send. Whatever becomes of it, the server goes on. */
  #attack(): void {
    const { world, options, counts } = this.#load;
    counts.sent += 1;
    const { host, port } = this.#random.of(options.targets);
    const socket = world.network.connect(this.#life, host, port);
    socket.on('error', () => undefined);
    socket.on('data', (bytes: Buffer) => {
      for (const [, code] of bytes.toString('latin1').matchAll(/"code":"([a-z_]+)"/g)) {
        world.judge.reached(`error: ${code}`);
      }
    });
    const [name, bytes] = this.#random.of(attacksOf(this.#random, this.#key));
    world.judge.reached(`attack: ${name}`);
    socket.write(bytes);
    if (this.#random.chance(0.3)) socket.pause();
    this.#life.at(world.loop.nowNs + this.#random.below(2e9), () => socket.destroy());
    this.#later(this.#random.below(500e6));
  }
}

function attacksOf(random: Random, key: string): (readonly [string, string])[] {
  const head = (more: string) =>
    'POST /v1/completions HTTP/1.1\r\nhost: 127.0.0.1\r\n' +
    `authorization: Bearer ${key}\r\n${more}\r\n`;
  const json = 'content-type: application/json\r\n';
  const body = JSON.stringify({ prompt: [1, 2, 3], max_tokens: 4 });
  const asked = (fields: object) => {
    const text = JSON.stringify(fields);
    return `${head(`${json}content-length: ${text.length}\r\n`)}${text}`;
  };
  const get = (path: string) =>
    `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer ${key}\r\n\r\n`;
  const whole = `${head(`${json}content-length: ${body.length}\r\n`)}${body}`;
  return [
    ['garbage', random.bytes(200).toString('latin1')],
    ['half a head', 'POST /v1/completions HTTP/1.1\r\nhost: 127'],
    ['half a body', `${head(`${json}content-length: 1000\r\n`)}{"prompt": [1`],
    ['no JSON', `${head(`${json}content-length: 5\r\n`)}{]}[{`],
    ['deep JSON', `${head(`${json}content-length: 2000\r\n`)}${'['.repeat(2000)}`],
    ['two lengths', `${head(`${json}content-length: 5\r\ncontent-length: 6\r\n`)}abcdef`],
    ['a length and chunks', head(`${json}content-length: 5\r\ntransfer-encoding: chunked\r\n`)],
    ['many at once', whole.repeat(40)],
    ['a long header', head(`x: ${'y'.repeat(20_000)}\r\n`)],
    ['a bad token', `${head(`${json}content-length: 24\r\n`)}{"prompt":[99999999999]} `],
    ['no tokens', `${head(`${json}content-length: 13\r\n`)}{"prompt":[]}`],
    ['another key', whole.replace(key, 'not-a-key')],
    ['another type', `${head('content-type: text/plain\r\ncontent-length: 2\r\n')}{}`],
    ['another model', asked({ model: 'another', prompt: [1] })],
    ['another value', asked({ prompt: [1], max_tokens: -1 })],
    ['another format', asked({ prompt: [1], best_of: 2 })],
    ['a long prompt', asked({ prompt: Array(600).fill(1) })],
    ['a large body', head(`${json}content-length: 1000000000\r\n`)],
    ['another method', get('/v1/completions').replace('GET', 'PUT')],
    ['an operator alone', get('/v1/receipts/links?first=1&count=1')],
    ['no receipt', get('/v1/receipts/rcpt_none')],
    ['no response', get('/v1/responses/resp_none')],
    [
      'a page of another',
      whole.replace('content-type', 'origin: https://x.example\r\ncontent-type'),
    ],
    ['another host', whole.replace('127.0.0.1', 'x.example')],
    ['sleep', get('/sleep').replace('GET', 'POST')],
    ['another route', 'DELETE /v1/nothing HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n'],
  ];
}

/** One request, from its first byte to what became of it. */
class Call implements ResponseListener {
  readonly #client: Client;
  readonly #load: Load;
  readonly #life: Life;
  readonly #random: Random;
  readonly #name: string;
  readonly #wanted: TokenRequest;
  readonly #isStream: boolean;
  readonly #expected: readonly number[];
  readonly #tokens: number[] = [];
  /** After so many tokens the client leaves; null: it does not. */
  readonly #leavesAfter: number | null;
  #connection: ClientConnection | null = null;
  #head: ResponseHead | null = null;
  #text = '';
  #isDone = false;
  #hasEnded = false;
  #finishes = 0;
  #error: string | null = null;
  #heardNs = 0;
  /** For so long nothing was read, however much had come. */
  #restedNs = 0;
  #host = '';
  /** The server that answers; undefined: a gateway does. */
  #server: ServerProcess | undefined;
  /** Its process that does. */
  #servedBy: Life | undefined;
  #endPatience: () => void = () => {};

  constructor(client: Client, load: Load, life: Life, random: Random, name: string) {
    this.#client = client;
    this.#load = load;
    this.#life = life;
    this.#random = random;
    this.#name = name;
    this.#isStream = random.chance(0.7);
    const seed = random.chance(0.3) ? random.below(2 ** 31) : null;
    const stopTokens = random.chance(0.3)
      ? Array.from({ length: 30 }, () => random.between(1, VOCABULARY - 1))
      : [];
    const { outputMax, longShare } = load.options;
    const mostTokens = random.chance(longShare) ? outputMax : Math.min(outputMax, SHORT_TOKENS);
    const maxTokens = random.between(1, mostTokens);
    this.#wanted = { prompt: load.prompt(random, client.key), maxTokens, seed, stopTokens };
    this.#expected = expectedTokens(this.#wanted);
    const mayLeave = client.kind === 'vanishing' && random.chance(0.5);
    this.#leavesAfter = mayLeave ? random.below(maxTokens + 1) : null;
  }

  send(): void {
    const { prompt, maxTokens, seed, stopTokens } = this.#wanted;
    const body = JSON.stringify({
      model: 'story',
      prompt,
      max_tokens: maxTokens,
      stream: this.#isStream,
      ignore_eos: true,
      return_token_ids: true,
      temperature: seed === null ? 0 : 1,
      ...(seed === null ? {} : { seed }),
      ...(stopTokens.length === 0 ? {} : { stop_token_ids: stopTokens }),
    });
    const headers = {
      'content-type': 'application/json',
      authorization: `Bearer ${this.#client.key}`,
      'x-request-id': this.#name,
    };
    this.#connection = this.#client.connection();
    this.#host = this.#client.target.host;
    this.#heardNs = this.#load.world.loop.nowNs;
    this.#wait();
    this.#connection.send('POST', '/v1/completions', headers, body, this);
    if (this.#leavesAfter === 0) {
      this.#life.at(this.#heardNs + this.#random.below(20e6), () => this.#leave());
    }
  }

  head(head: ResponseHead): void {
    this.#heard();
    this.#head = head;
    this.#server = this.#load.world.servers.find(({ host }) => host === this.#host);
    this.#servedBy = this.#server?.life;
  }

  body(text: string): void {
    this.#heard();
    if (this.#isDone) return;
    this.#text += text;
    if (this.#head?.status !== 200 || !this.#isStream) return;
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end < 0) break;
      const event = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 2);
      this.#event(event);
      if (this.#isDone) return;
    }
    if (this.#client.kind === 'slow' && this.#random.chance(0.2)) this.#rest();
  }

  end(): void {
    if (this.#isDone) return;
    const { status } = this.#head!;
    if (status !== 200) {
      this.#refused(status);
      return;
    }
    if (!this.#isStream) this.#document();
    if (this.#isDone) return;
    const { judge } = this.#load.world;
    if (this.#error !== null) {
      judge.reached(`error: ${this.#error}`);
      this.#requireCause(this.#error);
      this.#outcome('failed', `error ${this.#error}`);
      return;
    }
    judge.require(
      this.#finishes === 1 && (this.#hasEnded || !this.#isStream),
      'ends-once',
      () => `${this.#name}: ${this.#finishes} ends, ${this.#hasEnded ? 'and' : 'without'} [DONE]`,
    );
    judge.require(
      this.#tokens.length === this.#expected.length,
      'tokens-right',
      () => `${this.#name}: ${this.#tokens.length} tokens of ${this.#expected.length}`,
    );
    this.#keepReceipt();
    this.#outcome('complete', '');
  }

  lost(code: string): void {
    if (this.#isDone) return;
    if (this.#head === null) this.#outcome('unreachable', code);
    else {
      this.#outcome('cut', code);
      // One that reads slowly may not get the last bytes in time.
      const mayBeCut = !this.#load.options.hasWholePaths || this.#client.kind === 'slow';
      if (!mayBeCut) this.#server?.cutOff(this.#servedBy!, this.#name);
    }
  }

  /** Whoever is told that the engine failed takes it for a fault of the server. */
  #requireCause(code: string): void {
    const { judge, servers } = this.#load.world;
    judge.require(
      code !== 'engine_failed' || servers.some(({ trouble }) => trouble.hasEverFailed),
      'answers',
      () => `${this.#name} is told that the engine failed, and none has`,
    );
  }

  broken(what: string): void {
    this.#load.world.judge.violated('ends-once', `${this.#name}: ${what}`);
  }

  #event(event: string): void {
    const { judge } = this.#load.world;
    if (!event.startsWith('data: ')) {
      judge.violated('answers', `${this.#name}: an event that is none: ${event.slice(0, 60)}`);
      return;
    }
    judge.require(!this.#hasEnded, 'ends-once', () => `${this.#name}: an event after [DONE]`);
    const data = event.slice(6);
    if (data === '[DONE]') {
      this.#hasEnded = true;
      return;
    }
    const document = JSON.parse(data);
    if (document.error !== undefined) {
      this.#error = document.error.code;
      return;
    }
    for (const choice of document.choices) this.#choice(choice);
  }

  #document(): void {
    const document = JSON.parse(this.#text);
    for (const choice of document.choices) this.#choice(choice);
    this.#load.world.judge.require(
      document.usage.completion_tokens === this.#tokens.length,
      'answers',
      () => `${this.#name}: usage says ${document.usage.completion_tokens}`,
    );
  }

  #choice(choice: { token_ids: number[] | null; finish_reason: string | null }): void {
    const { judge } = this.#load.world;
    judge.require(this.#finishes === 0, 'ends-once', () => `${this.#name}: more after its end`);
    for (const token of choice.token_ids ?? []) {
      if (judge.violations.length > 0) return;
      const wanted = this.#expected[this.#tokens.length];
      judge.require(
        token === wanted,
        'tokens-right',
        () => `${this.#name}: token ${this.#tokens.length} is ${token}, and should be ${wanted}`,
      );
      this.#tokens.push(token);
    }
    if (choice.finish_reason !== null) {
      this.#finishes += 1;
      const isStopped = this.#wanted.stopTokens.includes(this.#expected.at(-1)!);
      const reason = isStopped ? 'stop' : 'length';
      judge.require(
        choice.finish_reason === reason,
        'answers',
        () => `${this.#name}: ends for ${choice.finish_reason}, and should for ${reason}`,
      );
    }
    if (this.#leavesAfter !== null && this.#tokens.length >= this.#leavesAfter) this.#leave();
  }

  #refused(status: number): void {
    const { judge } = this.#load.world;
    let code = 'none';
    try {
      code = JSON.parse(this.#text).error.code ?? 'none';
    } catch {
      judge.violated('answers', `${this.#name}: status ${status} without an error`);
    }
    judge.reached(`error: ${code}`);
    judge.reached(`refused: ${status} ${code}`);
    this.#requireCause(code);
    judge.require(
      NOT_NOW.has(status) && code !== 'internal_error',
      'answers',
      () => `${this.#name}: status ${status}, ${code}`,
    );
    if (status === 429 && !this.#load.options.hasLimits) {
      judge.violated('quota-kept', `${this.#name}: refused with ${code}, and nothing is limited`);
    }
    this.#outcome('refused', `${status} ${code}`);
  }

  #keepReceipt(): void {
    const id = this.#head!.headers.get('x-receipt-id');
    if (id === undefined) {
      this.#load.world.judge.reached('answer without a receipt');
      return;
    }
    this.#load.receipts.push({
      id,
      key: this.#client.key,
      host: this.#host,
      generated: this.#tokens.length,
      isKept: false,
      document: null,
    });
  }

  #outcome(kind: keyof Load['counts'], detail: string): void {
    this.#isDone = true;
    this.#endPatience();
    const { judge } = this.#load.world;
    this.#load.counts[kind] += 1;
    judge.reached(`outcome: ${kind}`);
    const isLost = kind === 'failed' || kind === 'unreachable' || kind === 'cut';
    // One that leaves unread what was written for longer than `--stall-timeout` is cut off. What
    // is on its way is not unread for so long.
    const isTooSlow = kind === 'cut' && this.#restedNs >= 0.9 * this.#load.options.stallNs;
    if (isLost && this.#load.options.isPeaceful && detail !== 'left' && !isTooSlow) {
      judge.violated('live', `${this.#name}: ${kind}, ${detail}, and nothing had failed`);
    }
    if (kind === 'failed' || kind === 'unreachable') judge.reached(`${kind}: ${detail}`);
    judge.note(`${this.#name} ${kind} ${detail} ${this.#tokens.length} ${this.#tokens.at(-1)}`);
    this.#client.done(kind === 'complete');
  }

  #leave(): void {
    if (this.#isDone) return;
    this.#load.world.judge.reached('client left');
    this.#client.leave();
    this.#outcome('cut', 'left');
  }

  #rest(): void {
    const socket = this.#connection?.socket;
    const ns = this.#random.below(3e9);
    this.#restedNs += ns;
    socket?.pause();
    this.#life.at(this.#load.world.loop.nowNs + ns, () => socket?.resume());
  }

  #heard(): void {
    this.#heardNs = this.#load.world.loop.nowNs;
  }

  /** A client that hears nothing says so, and leaves. */
  #wait(): void {
    const { world } = this.#load;
    // Once nothing fails, an answer that was lost before has as long as any.
    const waitsUntilNs = () => Math.max(this.#heardNs, world.calmSinceNs ?? 0) + PATIENCE_NS;
    this.#endPatience = this.#life.at(waitsUntilNs(), () => {
      if (world.loop.nowNs < waitsUntilNs()) {
        this.#wait();
        return;
      }
      const { calmSinceNs } = world;
      if (calmSinceNs !== null) {
        world.judge.violated('live', `${this.#name} has heard nothing for two minutes`);
      }
      world.judge.reached('client lost its patience');
      this.#client.leave();
      this.#outcome('cut', 'nothing heard');
    });
  }
}
