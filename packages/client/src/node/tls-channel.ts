import type { IncomingMessage } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Policy, VerifyResult } from '@bridgekeeper/attest';
import type { ServerAddress } from '../address.ts';
import { readBounded } from '../bounded.ts';
import type { Channel, FetchedReport, Pin } from '../channel.ts';
import { ClientError } from '../errors.ts';
import { endToEndHeaders, type OutgoingRequest } from '../outgoing.ts';
import { REPORT_BYTES_MAX, reportPath, requireReport } from '../report-request.ts';
import { PinnedAgent } from './pinned-agent.ts';

/** Connections to a server that are held to its TLS key. */
export class TlsChannel implements Channel {
  readonly #address: ServerAddress;
  readonly #agent: PinnedAgent;
  #isPinned = false;

  /** Throws ClientError 'bad-address' for what is not https. */
  constructor(address: ServerAddress) {
    const { protocol, hostname, port } = address.url;
    if (protocol !== 'https:') {
      throw new ClientError('bad-address', `${address.origin} has no TLS key that can be pinned`);
    }
    this.#address = address;
    const host = hostname.replace(/^\[|\]$/g, '');
    this.#agent = new PinnedAgent(host, port === '' ? 443 : Number(port));
  }

  policy(policy: Policy): Policy {
    return policy;
  }

  async fetchReport(
    nonceHex: string,
    authorization: string | null,
    signal: AbortSignal,
  ): Promise<FetchedReport> {
    const headers: [string, string][] = [['accept', 'application/json']];
    if (authorization !== null) headers.push(['authorization', authorization]);
    const path = reportPath(this.#address, nonceHex);
    const response = await this.#request({
      method: 'GET',
      path,
      headers,
      body: new Uint8Array(),
      signal,
    });
    requireReport(this.#address, response);
    const bytes = await readBounded(response.body, REPORT_BYTES_MAX, 'the report');
    // The agent has shown this key on every connection so far, or the request had failed.
    return { bytes, connectionSpkiSha256: this.#agent.spkiSha256! };
  }

  async pin({ claims }: VerifyResult, { connectionSpkiSha256 }: FetchedReport): Promise<Pin> {
    // Whatever the policy asks for: without this claim there is no key to send anything to.
    const claim = claims.find(({ kind, status }) => kind === 'server.tls' && status === 'verified');
    const sha256 = this.#agent.spkiSha256;
    const isProven = claim !== undefined && claim.value === sha256;
    if (!isProven || sha256 === undefined || sha256 !== connectionSpkiSha256) {
      const message = 'the report does not prove the TLS key of this connection';
      throw new ClientError('nothing-to-pin', message);
    }
    this.#isPinned = true;
    return { kind: 'tls', sha256 };
  }

  async send(request: OutgoingRequest): Promise<Response> {
    if (!this.#isPinned) throw new ClientError('nothing-to-pin', 'nothing was verified yet');
    return this.#request(request);
  }

  retire(): void {
    this.#agent.retire();
  }

  close(): void {
    this.#agent.destroy();
  }

  async #request({ method, path, headers, body, signal }: OutgoingRequest): Promise<Response> {
    const { host, port } = this.#agent;
    const options = { host, port, method, path, signal, headers: Object.fromEntries(headers) };
    try {
      const message = await new Promise<IncomingMessage>((resolve, reject) => {
        const outgoing = requestHttps({ ...options, agent: this.#agent }, resolve);
        outgoing.on('error', reject);
        // Kept until the agent has found a connection that shows the right key.
        outgoing.end(body);
      });
      return responseOf(message);
    } catch (cause) {
      if (cause instanceof ClientError || signal.aborted) throw cause;
      const reason = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
      throw new ClientError('unreachable', `${this.#address.origin}: ${reason}`, { cause });
    }
  }
}

const WITHOUT_BODY: ReadonlySet<number> = new Set([204, 205, 304]);

/** The answer as it comes, read no faster than its reader reads. */
function responseOf(message: IncomingMessage): Response {
  const { statusCode: status = 0, rawHeaders } = message;
  const pairs = rawHeaders.flatMap((name, i): [string, string][] =>
    i % 2 === 0 ? [[name, rawHeaders[i + 1]!]] : [],
  );
  const headers = new Headers(endToEndHeaders(pairs));
  if (WITHOUT_BODY.has(status)) {
    message.resume();
    return new Response(null, { status, headers });
  }
  return new Response(streamOf(message), { status, headers });
}

function streamOf(message: IncomingMessage): ReadableStream<Uint8Array> {
  const parts = message[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await parts.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      // Ends the connection: the server sees that its answer is no longer wanted.
      cancel: () => void message.destroy(),
    },
    { highWaterMark: 0 },
  );
}
