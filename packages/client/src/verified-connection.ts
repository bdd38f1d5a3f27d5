import {
  AttestError,
  ChainCache,
  type GivenFile,
  type Policy,
  type TrustAnchors,
  VENDOR_ROOTS,
  type VerifyResult,
  verifyEvidence,
} from '@bridgekeeper/attest';
import type { ServerAddress } from './address.ts';
import type { Channel, Pin } from './channel.ts';
import { type ClientClock, SYSTEM_CLOCK } from './clock.ts';
import { ClientError } from './errors.ts';
import { type FetchInput, readOutgoing } from './outgoing.ts';
import { hexOf, proofOfKey } from './proof.ts';
import { type Services, vendorServices } from './services.ts';

export interface ConnectOptions {
  /** What the server must show. One of a known software: see `pinPolicy`. */
  readonly policy: Policy;
  /**
   * The server's key, where it wants one for its report: it is proven, never sent. Requests carry
   * their own, as the OpenAI client does.
   */
  readonly apiKey?: string;
  /** A report that is older is asked for anew before the next request. Default: an hour. */
  readonly reportSecondsMax?: number;
  /** Seconds that the server has for its report: it may wake GPUs for it. Default: 60. */
  readonly reportTimeoutSeconds?: number;
  /** The largest request. Default: 32 MiB. */
  readonly requestBytesMax?: number;
  /** Evidence that belongs to the server's, such as collateral. */
  readonly files?: readonly GivenFile[];
  /** Default: the vendors' own. */
  readonly anchors?: TrustAnchors;
  /** For a verification at that moment. Default: the vendors' services over `fetch`. */
  readonly services?: (nowMs: number) => Services;
  readonly clock?: ClientClock;
  /** Called after every verification, the first included: what came of it. */
  readonly onVerification?: (outcome: Verification | ClientError) => void;
}

/** A verification that succeeded. */
export interface Verification {
  readonly report: VerifyResult;
  readonly pin: Pin;
}

const REPORT_SECONDS_MAX = 3600;
const REPORT_TIMEOUT_SECONDS = 60;
const REQUEST_BYTES_MAX = 32 * 2 ** 20;
const NONCE_BYTES = 32;

interface Current extends Verification {
  readonly channel: Channel;
  readonly verifiedAtMs: number;
}

/**
 * A server that was verified, and the only way to it: each request goes to the key that the report
 * proves. A report that is too old, or a key that has changed, is verified anew first; while that
 * fails, nothing is sent.
 */
export class VerifiedConnection {
  readonly #address: ServerAddress;
  readonly #options: ConnectOptions;
  readonly #clock: ClientClock;
  readonly #openChannel: () => Channel;
  readonly #chains = new ChainCache();
  #current: Current | undefined;
  #last: Verification | undefined;
  #pending: Promise<Current> | undefined;
  #isClosed = false;

  constructor(address: ServerAddress, options: ConnectOptions, openChannel: () => Channel) {
    this.#address = address;
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#openChannel = openChannel;
  }

  /** The last that held; undefined before the first. */
  get last(): Verification | undefined {
    return this.#last;
  }

  /** What holds now, verified anew if it must be. Throws ClientError. */
  async verified(): Promise<Current> {
    if (this.#isClosed) throw new ClientError('closed', 'this connection was closed');
    const { reportSecondsMax = REPORT_SECONDS_MAX } = this.#options;
    const current = this.#current;
    if (current !== undefined) {
      const ageMs = this.#clock.monotonicMs() - current.verifiedAtMs;
      if (ageMs <= reportSecondsMax * 1000) return current;
    }
    // All requests wait for one verification.
    this.#pending ??= this.#verify().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  /** As `fetch`, to the verified server alone. Throws ClientError, and what aborts throw. */
  async fetch(input: FetchInput, init?: RequestInit): Promise<Response> {
    const bytesMax = this.#options.requestBytesMax ?? REQUEST_BYTES_MAX;
    const request = await readOutgoing(this.#address, input, init, bytesMax);
    const { channel, pin } = await this.verified();
    request.signal.throwIfAborted();
    try {
      return await channel.send(request);
    } catch (error) {
      if (!(error instanceof ClientError) || error.code !== 'key-changed') throw error;
      this.#forget(channel);
      const next = await this.verified();
      request.signal.throwIfAborted();
      // Whoever carries envelopes may have passed this one on and lied about it. Where the server
      // still has its key it can have opened it, and is not asked twice.
      if (pin.kind === 'encryption' && next.pin.sha256 === pin.sha256) throw error;
      return next.channel.send(request);
    }
  }

  close(): void {
    this.#isClosed = true;
    this.#current?.channel.close();
    this.#current = undefined;
  }

  /** What was verified holds no longer, unless it was replaced meanwhile. */
  #forget(channel: Channel): void {
    channel.retire();
    if (this.#current?.channel === channel) this.#current = undefined;
  }

  async #verify(): Promise<Current> {
    const channel = this.#openChannel();
    try {
      const verification = await this.#verifyBy(channel);
      if (this.#isClosed) throw new ClientError('closed', 'this connection was closed');
      this.#current?.channel.retire();
      this.#current = { ...verification, channel, verifiedAtMs: this.#clock.monotonicMs() };
      this.#last = verification;
      this.#options.onVerification?.(verification);
      return this.#current;
    } catch (error) {
      channel.close();
      // What could not be verified again is not used any more.
      if (this.#current !== undefined) this.#forget(this.#current.channel);
      if (error instanceof ClientError) this.#options.onVerification?.(error);
      throw error;
    }
  }

  async #verifyBy(channel: Channel): Promise<Verification> {
    const { apiKey, files = [], anchors = VENDOR_ROOTS, policy, services } = this.#options;
    const nowMs = this.#clock.unixMs();
    const nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
    const nonceHex = hexOf(nonce);
    const proof = apiKey === undefined ? null : await proofOfKey(apiKey, nonceHex);
    const fetched = await this.#inTime((signal) => channel.fetchReport(nonceHex, proof, signal));
    const { bytes, ...connection } = fetched;
    const report = await readAndJudge({
      input: this.#address.url.href,
      files: [{ name: 'the report', bytes, isNamed: true }, ...files],
      policy: channel.policy(policy),
      context: {
        nowMs,
        nonce,
        anchors,
        chains: this.#chains,
        ...(services ?? vendorServices(this.#clock))(nowMs),
        ...connection,
      },
    });
    if (report.verdict.result !== 'verified') throw refusal(report);
    return { report, pin: await channel.pin(report, fetched) };
  }

  async #inTime<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const stop = new AbortController();
    const seconds = this.#options.reportTimeoutSeconds ?? REPORT_TIMEOUT_SECONDS;
    const cancel = this.#clock.after(seconds * 1000, () => stop.abort());
    try {
      return await run(stop.signal);
    } catch (cause) {
      if (!stop.signal.aborted) throw cause;
      const message = `${this.#address.origin}: no report within ${seconds} s`;
      throw new ClientError('unreachable', message, { cause });
    } finally {
      cancel();
    }
  }
}

async function readAndJudge(request: Parameters<typeof verifyEvidence>[0]): Promise<VerifyResult> {
  try {
    return await verifyEvidence(request);
  } catch (cause) {
    if (!(cause instanceof AttestError)) throw cause;
    throw new ClientError('unreadable', cause.message, { cause });
  }
}

function refusal(result: VerifyResult): ClientError {
  const { policy, reasons } = result.verdict;
  const all = reasons.map(({ subject, kind, text }) => `${subject} ${kind}: ${text}`);
  const message = `refused under the policy "${policy}": ${all.join('; ')}`;
  return new ClientError('refused', message, { result });
}
