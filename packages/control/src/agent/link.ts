import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { request as requestHttp } from 'node:http';
import { Agent, type RequestOptions, request as requestHttps } from 'node:https';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { z } from '@hono/zod-openapi';
import { HostDesired, JoinAnswer } from '../api/agent.ts';
import { ErrorDocument } from '../api/routes.ts';
import { ControlError, type ControlErrorCode } from '../errors.ts';
import { isDue, makeRequest } from '../serve/authority.ts';
import { authorityOf, certificateSha256 } from '../serve/join.ts';
import { writeWhole } from '../whole-file.ts';
import type { AskEvidence, ControlLink } from './agent.ts';

const ANSWER_MS = 15_000;
/** Where there is another control to ask. */
const ANSWER_OF_SEVERAL_MS = 4000;
/** Longer than control lets a request for what is desired wait. */
const POLL_MS = 40_000;
const ANSWER_BYTES_MAX = 4 << 20;
const REPORT_BYTES_MAX = 2_000_000;

/** What joining left on this host. */
export interface Identity {
  readonly certificate: string;
  readonly key: string;
  readonly authority: string;
}

/** The identity in `folder`, or null. Throws ControlError 'store-broken'. */
export function readIdentity(folder: string): Identity | null {
  const path = (name: string) => join(folder, name);
  if (!existsSync(path('agent.crt'))) return null;
  try {
    const [certificate, key, authority] = ['agent.crt', 'agent.key', 'control.crt'].map((name) =>
      readFileSync(path(name), 'utf8'),
    ) as [string, string, string];
    // Both must be what they are called: a link would fail with words that say nothing.
    const isOfKey = new X509Certificate(certificate).checkPrivateKey(createPrivateKey(key));
    if (!isOfKey) throw new Error('the certificate is of another key');
    new X509Certificate(authority);
    return { certificate, key, authority };
  } catch (cause) {
    const why = (cause as Error).message;
    const message = `${folder} has no identity that can be used (${why}): remove it and join anew`;
    throw new ControlError('store-broken', message, { cause });
  }
}

/**
 * Joins with a token: control is who the token says, and signs a key that is made here and stays
 * here. Repeated with the same folder it has the same key. Throws ControlError.
 */
export async function joinControl(
  urls: readonly string[],
  token: string,
  host: string,
  folder: string,
): Promise<Identity> {
  const expected = authorityOf(token);
  if (expected === null) throw new ControlError('join-refused', 'this is no token to join with');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const keep = (name: string, text: string) => writeWhole(join(folder, name), text);
  const pending = join(folder, 'joining.json');
  if (!existsSync(pending)) keep('joining.json', JSON.stringify(await makeRequest(host)));
  const { csr, key } = readPending(pending);
  const body = JSON.stringify({ token, host, csr });
  const options = {
    method: 'POST',
    rejectUnauthorized: false,
    // Who it is is known by the token, which came another way.
    onSocket: (socket: TLSSocket) => checkAuthority(socket, expected),
  };
  const text = await firstThatLeads(urls, (url) =>
    ask(new URL('/agent/v1/join', url), options, body, ANSWER_MS, undefined),
  );
  const answer = JoinAnswer.parse(JSON.parse(text));
  if (certificateSha256(answer.authority) !== expected) {
    throw new ControlError('join-refused', 'control names another authority than the token');
  }
  keep('agent.key', key);
  keep('control.crt', answer.authority);
  keep('agent.crt', answer.certificate);
  return { ...answer, key };
}

/** Each once. Throws what the last one threw. */
async function firstThatLeads<T>(
  urls: readonly string[],
  asking: (url: string) => Promise<T>,
): Promise<T> {
  for (const url of urls.slice(0, -1)) {
    try {
      return await asking(url);
    } catch (error) {
      if (!isAway(error)) throw error;
    }
  }
  return asking(urls.at(-1)!);
}

/** The key that was made for joining, and the request to sign it. */
const Pending = z.strictObject({ csr: z.string(), key: z.string() });

function readPending(path: string): z.output<typeof Pending> {
  try {
    return Pending.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch (cause) {
    const message = `${path} cannot be read: remove it, and join with a new token`;
    throw new ControlError('store-broken', message, { cause });
  }
}

/** Whether the other end has a certificate of that authority. */
function checkAuthority(socket: TLSSocket, expected: string): void {
  const { raw, issuerCertificate } = socket.getPeerCertificate(true);
  const authority = issuerCertificate?.raw;
  if (authority !== undefined) {
    const root = new X509Certificate(authority);
    const isIts = new X509Certificate(raw).verify(root.publicKey);
    if (isIts && certificateSha256(root.toString()) === expected) return;
  }
  const message = 'whoever answers there is not the control of the token';
  socket.destroy(new ControlError('join-refused', message));
}

/** A link, and its own certificate, which is to be renewed in time. */
export interface RenewableLink extends ControlLink {
  /**
   * Gets a new certificate for the same key once a third of the old one's time is left, keeps it in
   * `folder`, and shows it from then on; false: it is not due. Throws ControlError.
   */
  renew(folder: string, nowMs: number): Promise<boolean>;
  close(): void;
}

/** A link to the controls at these addresses, of which one leads. */
export function controlLink(urls: readonly string[], joined: Identity): RenewableLink {
  let identity = joined;
  const open = ({ certificate: cert, key, authority: ca }: Identity) =>
    new Agent({ keepAlive: true, cert, key, ca, minVersion: 'TLSv1.3' });
  let agent = open(identity);
  const controls = new Controls(urls);
  return {
    desired: async (epoch, sequence, signal) => {
      const path = `/agent/v1/desired?epoch=${epoch}&sequence=${sequence}`;
      return HostDesired.parse(JSON.parse(await controls.poll(path, { agent }, signal)));
    },
    observe: async (observation) => {
      const body = JSON.stringify(observation);
      await controls.post('/agent/v1/observations', { agent }, body);
    },
    renew: async (folder, nowMs) => {
      const { certificate, key } = identity;
      if (!isDue(certificate, nowMs)) return false;
      const host = /^CN=(.*)$/m.exec(new X509Certificate(certificate).subject)?.[1] ?? '';
      const body = JSON.stringify({ csr: (await makeRequest(host, key)).csr });
      const text = await controls.post('/agent/v1/certificate', { agent }, body);
      const answer = JoinAnswer.parse(JSON.parse(text));
      if (!new X509Certificate(answer.certificate).checkPrivateKey(createPrivateKey(key))) {
        throw new ControlError('host-lied', 'control’s new certificate is of another key');
      }
      // Whom this host trusts was settled when it joined.
      identity = { ...identity, certificate: answer.certificate };
      writeWhole(join(folder, 'agent.crt'), identity.certificate);
      // What is under way ends with the old one.
      agent = open(identity);
      return true;
    },
    close: () => agent.destroy(),
  };
}

/** Asks the one that leads: the next in turn, where one does not answer or does not lead. */
class Controls {
  readonly #urls: readonly string[];
  #at = 0;
  /** Ends what still waits for one that was given up. */
  #leaving = new AbortController();

  constructor(urls: readonly string[]) {
    this.#urls = urls;
  }

  poll(path: string, options: RequestOptions, signal: AbortSignal): Promise<string> {
    return this.#turning((url, left) =>
      ask(new URL(path, url), options, null, POLL_MS, AbortSignal.any([signal, left])),
    );
  }

  post(path: string, options: RequestOptions, body: string): Promise<string> {
    const ms = this.#urls.length > 1 ? ANSWER_OF_SEVERAL_MS : ANSWER_MS;
    const posting = { ...options, method: 'POST' };
    return this.#turning((url) => ask(new URL(path, url), posting, body, ms, undefined));
  }

  async #turning(asking: (url: string, left: AbortSignal) => Promise<string>): Promise<string> {
    const at = this.#at;
    try {
      return await asking(this.#urls[at]!, this.#leaving.signal);
    } catch (error) {
      // Several calls fail at once: the first of them turns to the next.
      if (at === this.#at && this.#urls.length > 1 && isAway(error)) {
        this.#at = (at + 1) % this.#urls.length;
        const leaving = this.#leaving;
        this.#leaving = new AbortController();
        leaving.abort();
      }
      throw error;
    }
  }
}

/** Whether another control may be the one to ask. */
function isAway(error: unknown): boolean {
  if (!(error instanceof ControlError)) return false;
  return ['not-leader', 'fenced', 'store-unavailable', 'outcome-unknown'].includes(error.code);
}

/** Asks a replica for its report. Its certificate is its own: the report says which. */
export const askReplica: AskEvidence = async (address, credential, nonce) => {
  const url = new URL(`/v1/attestation/report?nonce=${nonce}`, address);
  // A gateway's key is believed for whom it asks.
  const headers = { authorization: `Bearer ${credential}`, 'x-bridgekeeper-tenant': 'control' };
  try {
    const options = { headers, rejectUnauthorized: false };
    return await ask(url, options, null, ANSWER_MS, undefined, REPORT_BYTES_MAX);
  } catch (error) {
    if (error instanceof ControlError) return null;
    throw error;
  }
};

interface AskOptions extends RequestOptions {
  readonly onSocket?: (socket: TLSSocket) => void;
}

function ask(
  url: URL,
  { onSocket, ...options }: AskOptions,
  body: string | null,
  ms: number,
  signal: AbortSignal | undefined,
  bytesMax = ANSWER_BYTES_MAX,
): Promise<string> {
  const away = (cause: Error) =>
    cause instanceof ControlError
      ? cause
      : new ControlError('store-unavailable', `${url.origin}: ${cause.message}`, { cause });
  return new Promise((resolve, reject) => {
    const request = url.protocol === 'https:' ? requestHttps : requestHttp;
    const headers = body === null ? {} : { 'content-type': 'application/json' };
    const sent = request(
      url,
      {
        ...options,
        headers: { ...headers, ...options.headers },
        timeout: ms,
        ...(signal && { signal }),
      },
      (response) => {
        const parts: Buffer[] = [];
        let bytes = 0;
        response.on('data', (part: Buffer) => {
          bytes += part.length;
          if (bytes > bytesMax) response.destroy(new Error(`it answers over ${bytesMax} bytes`));
          else parts.push(part);
        });
        response.on('error', (error) => reject(away(error)));
        response.on('end', () => {
          const text = Buffer.concat(parts).toString('utf8');
          if (response.statusCode === 200) resolve(text);
          else reject(refusalIn(url, response.statusCode ?? 0, text));
        });
      },
    );
    sent.on('socket', (socket) => {
      if (onSocket !== undefined) {
        socket.once('secureConnect', () => onSocket(socket as TLSSocket));
      }
    });
    sent.on('timeout', () => sent.destroy(new Error(`no answer within ${ms / 1000} s`)));
    sent.on('error', (error) => reject(away(error)));
    sent.end(body ?? undefined);
  });
}

function refusalIn(url: URL, status: number, text: string): ControlError {
  try {
    const { error } = ErrorDocument.parse(JSON.parse(text));
    return new ControlError(error.code as ControlErrorCode, error.message);
  } catch {
    return new ControlError('store-unavailable', `${url.origin} answered ${status}`);
  }
}
