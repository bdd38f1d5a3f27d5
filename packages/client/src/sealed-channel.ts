import {
  type Policy,
  readServerReport,
  requireEncryption,
  type VerifyResult,
} from '@bridgekeeper/attest';
import {
  EnvelopeError,
  encodeRequest,
  type KeyConfig,
  REQUEST_MEDIA_TYPE,
  RESPONSE_MEDIA_TYPE,
  type ResponseOpener,
  ResponseReader,
  readKeyConfigs,
  sealRequest,
} from '@bridgekeeper/envelope';
import type { ServerAddress } from './address.ts';
import { readBounded } from './bounded.ts';
import type { Channel, FetchedReport, Pin } from './channel.ts';
import type { ClientClock } from './clock.ts';
import { ClientError } from './errors.ts';
import { endToEndHeaders, type OutgoingRequest } from './outgoing.ts';
import { hexOf } from './proof.ts';
import { REPORT_BYTES_MAX, reportPath, requireReport } from './report-request.ts';

export interface SealedOptions {
  /** For those who carry the envelope, and read by all of them: a route, a key of a gateway's. */
  readonly outerHeaders?: Readonly<Record<string, string>>;
  /** Requests are padded to a multiple of it, so that less can be told from their size. */
  readonly paddedToBytes?: number;
  /** Reaches the gateway. Default: the platform's. */
  readonly carrier?: typeof globalThis.fetch;
}

const GATEWAY_PATH = '/.well-known/ohttp-gateway';
/** Believed for the way alone: a wrong one meets a server that cannot open what comes. */
const REPLICA_HEADER = 'x-bridgekeeper-replica';
const PADDED_TO_BYTES = 256;
const PROBLEM_BYTES_MAX = 4096;

/** Requests and answers in envelopes that the server alone can open, whoever carries them. */
export class SealedChannel implements Channel {
  readonly #address: ServerAddress;
  readonly #options: SealedOptions;
  readonly #clock: ClientClock;
  readonly #carrier: typeof globalThis.fetch;
  readonly #closing = new AbortController();
  #key: KeyConfig | undefined;
  /** Which of a gateway's replicas made the report: what is encrypted to it has to go there. */
  #replica: string | undefined;

  constructor(address: ServerAddress, clock: ClientClock, options: SealedOptions) {
    this.#address = address;
    this.#clock = clock;
    this.#options = options;
    this.#carrier = options.carrier ?? ((...request) => globalThis.fetch(...request));
  }

  policy(policy: Policy): Policy {
    return requireEncryption(policy);
  }

  async fetchReport(
    nonceHex: string,
    authorization: string | null,
    signal: AbortSignal,
  ): Promise<FetchedReport> {
    const headers: Record<string, string> = { ...this.#options.outerHeaders };
    if (authorization !== null) headers.authorization = authorization;
    const response = await this.#carry(reportPath(this.#address, nonceHex), { headers, signal });
    requireReport(this.#address, response);
    this.#replica = response.headers.get(REPLICA_HEADER)?.split(';', 1)[0] || undefined;
    return { bytes: await readBounded(response.body, REPORT_BYTES_MAX, 'the report') };
  }

  async pin({ claims }: VerifyResult, { bytes }: FetchedReport): Promise<Pin> {
    const claim = claims.find(
      ({ kind, status }) => kind === 'server.encryption' && status === 'verified',
    );
    const keys = readServerReport(new TextDecoder().decode(bytes)).encryptionKeys;
    const sha256 = keys && hexOf(new Uint8Array(await crypto.subtle.digest('SHA-256', keys)));
    if (claim === undefined || keys === null || sha256 === null || claim.value !== sha256) {
      throw new ClientError('nothing-to-pin', 'the report proves no key to encrypt to');
    }
    this.#key = firstKeyOf(keys);
    return { kind: 'encryption', sha256 };
  }

  async send(request: OutgoingRequest): Promise<Response> {
    if (this.#key === undefined) {
      throw new ClientError('nothing-to-pin', 'nothing was verified yet');
    }
    const { message, answer } = await sealRequest(this.#key, this.#innerOf(request));
    const headers: Record<string, string> = {
      ...this.#options.outerHeaders,
      ...(this.#replica === undefined ? {} : { [REPLICA_HEADER]: this.#replica }),
      'content-type': REQUEST_MEDIA_TYPE,
    };
    const signal = AbortSignal.any([request.signal, this.#closing.signal]);
    const init = { method: 'POST', headers, body: message, signal };
    const outer = await this.#carry(this.#address.basePath + GATEWAY_PATH, init);
    const isAnswer = outer.headers.get('content-type') === RESPONSE_MEDIA_TYPE;
    if (outer.status === 200 && isAnswer && outer.body !== null) {
      return openAnswer(outer.body, answer);
    }
    throw await this.#refusalOf(outer);
  }

  // What is under way needs nothing of this any more.
  retire(): void {}

  close(): void {
    this.#closing.abort();
  }

  #innerOf({ method, path, headers, body }: OutgoingRequest): Uint8Array {
    const { basePath, url } = this.#address;
    // By it the server tells a request from one that is played again.
    const date = new Date(this.#clock.unixMs()).toUTCString();
    const inner = {
      method,
      authority: url.host,
      path: path.slice(basePath.length),
      headers: [...headers.filter(([name]) => name !== 'date'), ['date', date] as const],
      body,
    };
    return encodeRequest(inner, this.#options.paddedToBytes ?? PADDED_TO_BYTES);
  }

  async #carry(path: string, init: RequestInit): Promise<Response> {
    const { origin } = this.#address;
    try {
      return await this.#carrier(origin + path, {
        ...init,
        redirect: 'error',
        credentials: 'omit',
      });
    } catch (cause) {
      if (init.signal?.aborted) throw cause;
      throw new ClientError('unreachable', `${origin} cannot be reached`, { cause });
    }
  }

  /** Nobody between can answer in the server's place: what is in no envelope is not passed on. */
  async #refusalOf(outer: Response): Promise<ClientError> {
    const { origin } = this.#address;
    const text = await readBounded(outer.body, PROBLEM_BYTES_MAX, 'the refusal').then(
      (bytes) => new TextDecoder().decode(bytes),
      () => '',
    );
    if (outer.status === 400 && text.includes('#ohttp-key')) {
      return new ClientError('key-changed', `${origin} cannot open what is encrypted to its key`);
    }
    const message = `${origin} answers status ${outer.status} outside of the envelope`;
    return new ClientError('unreachable', message);
  }
}

function firstKeyOf(keys: Uint8Array): KeyConfig {
  try {
    const [first] = readKeyConfigs(keys);
    if (first !== undefined) return first;
  } catch (cause) {
    if (!(cause instanceof EnvelopeError)) throw cause;
  }
  throw new ClientError('nothing-to-pin', 'the report’s keys for encryption are none');
}

const WITHOUT_BODY: ReadonlySet<number> = new Set([204, 205, 304]);

/** Opens an answer as it comes; it ends only with the part that the server sealed as the last. */
async function openAnswer(
  carried: ReadableStream<Uint8Array>,
  opener: ResponseOpener,
): Promise<Response> {
  const source = carried.getReader();
  const reader = new ResponseReader();
  let isAtEnd = false;
  const next = async (): Promise<Uint8Array> => {
    try {
      const { done, value } = await source.read();
      if (!done) return reader.push(await opener.push(value));
      const last = reader.push(await opener.end());
      reader.end();
      isAtEnd = true;
      return last;
    } catch (cause) {
      if (!(cause instanceof EnvelopeError)) throw cause;
      await source.cancel().catch(() => undefined);
      throw new ClientError('not-genuine', `the answer: ${cause.message}`, { cause });
    }
  };
  let early = await next();
  while (reader.head === undefined) early = await next();
  const { status, headers } = reader.head;
  const init = { status, headers: endToEndHeaders(headers) };
  const body = new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        let content = early;
        early = new Uint8Array();
        while (content.length === 0 && !isAtEnd) content = await next();
        if (content.length > 0) controller.enqueue(content);
        else controller.close();
      },
      cancel: (reason) => source.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  return new Response(WITHOUT_BODY.has(status) ? null : body, init);
}
