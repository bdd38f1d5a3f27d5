import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { TLSSocket } from 'node:tls';
import { VerifyError } from './errors.ts';

const REPORT_BYTES_MAX = 8 * 1024 * 1024;

/** A server's report as it came, and whose connection it came by. */
export interface FetchedReport {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** SHA-256 of the peer's SubjectPublicKeyInfo, hexadecimal; null: plain HTTP. */
  readonly tlsSpkiSha256: string | null;
}

export interface ReportRequest {
  /** Of the server, with or without the path of the report. */
  readonly url: string;
  readonly nonceHex: string;
  readonly apiKey: string | undefined;
  /** Ends the request: who waits too long aborts. */
  readonly signal: AbortSignal;
}

/** As URLs spell them. */
const LOOPBACK = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/;
const REPORT_PATH = '/v1/attestation/report';

/** Asks a server for its report with our nonce. Follows no redirection. Throws VerifyError. */
export async function fetchReport(request: ReportRequest): Promise<FetchedReport> {
  const url = reportUrl(request);
  if (request.apiKey !== undefined && url.protocol === 'http:' && !LOOPBACK.test(url.hostname)) {
    throw new VerifyError('unreachable', `${url.origin}: no key is sent there over plain HTTP`);
  }
  try {
    const reply = await send(url, request);
    const tlsSpkiSha256 = spkiOf(reply);
    const bytes = await readBody(reply, url);
    if (reply.statusCode !== 200) throw refusedBy(url, reply.statusCode);
    return { bytes, tlsSpkiSha256 };
  } catch (cause) {
    if (cause instanceof VerifyError) throw cause;
    const { message, code } = cause as NodeJS.ErrnoException;
    const isDoubted = request.apiKey !== undefined && /CERT|SIGNATURE/.test(code ?? '');
    const advice = isDoubted
      ? `${message}: NODE_EXTRA_CA_CERTS names a file that vouches`
      : message;
    const reason = request.signal.aborted ? 'no answer in time' : advice;
    throw new VerifyError('unreachable', `${url.origin}: ${reason}`, { cause });
  }
}

function reportUrl({ url: text, nonceHex }: ReportRequest): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new VerifyError('unreadable', `${text} is no address`, { cause });
  }
  if (url.username !== '' || url.password !== '') {
    const advice = 'put a key into BRIDGEKEEPER_VERIFY_API_KEY, not into the address';
    throw new VerifyError('unreadable', advice);
  }
  const path = url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '');
  url.pathname = path.endsWith(REPORT_PATH) ? path : path + REPORT_PATH;
  url.searchParams.set('nonce', nonceHex);
  return url;
}

function send(url: URL, { apiKey, signal }: ReportRequest): Promise<IncomingMessage> {
  const headers = {
    accept: 'application/json',
    ...(apiKey && { authorization: `Bearer ${apiKey}` }),
  };
  return new Promise((resolve, reject) => {
    // Who the peer is follows from its key in the quote, not from who certified its name: servers
    // in confidential VMs sign their own. But a secret goes only to whom somebody vouches for. Each
    // request has a connection of its own, so that the key seen is that of the one that answered.
    const rejectUnauthorized = apiKey !== undefined;
    const options = { headers, signal, agent: false, rejectUnauthorized };
    const request = url.protocol === 'https:' ? requestHttps : requestHttp;
    request(url, options, resolve).on('error', reject).end();
  });
}

function spkiOf(reply: IncomingMessage): string | null {
  const { getPeerX509Certificate } = reply.socket as Partial<TLSSocket>;
  const certificate = getPeerX509Certificate?.call(reply.socket);
  if (certificate === undefined) return null;
  const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(spki).digest('hex');
}

async function readBody(reply: IncomingMessage, url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of reply as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > REPORT_BYTES_MAX) {
      reply.destroy();
      const limit = `more than ${REPORT_BYTES_MAX} bytes`;
      throw new VerifyError('too-large', `${url.origin} answers with ${limit}`);
    }
    parts.push(part);
  }
  return new Uint8Array(Buffer.concat(parts));
}

function refusedBy(url: URL, status: number | undefined): VerifyError {
  const advice: Readonly<Record<number, string>> = {
    401: ': put its key into BRIDGEKEEPER_VERIFY_API_KEY',
    404: ': it has no report at this path',
  };
  const said = `${url.origin}${url.pathname} answers with status ${status}`;
  return new VerifyError('unreachable', said + (advice[status ?? 0] ?? ''));
}
