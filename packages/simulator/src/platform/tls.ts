import { X509Certificate } from 'node:crypto';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { SimulatedSocket } from '../world/network.ts';

/*
 * TLS without its bytes: who each end is travels with the connection, certificates are real and are
 * checked as TLS checks them, and what is sent is plain.
 */

/** PEM, as `tls` takes it. */
export interface TlsOptions {
  /** The own certificate, and those above it. */
  readonly cert?: string;
  /** Whom it trusts. */
  readonly ca?: string;
  readonly rejectUnauthorized?: boolean;
}

interface PeerCertificate {
  readonly raw?: Buffer;
  readonly issuerCertificate?: PeerCertificate;
}

const parsed = new Map<string, readonly X509Certificate[]>();
const PARSED_MAX = 100;

/** Those of a PEM file, each read once: that takes a while. */
function certificatesOf(pem = ''): readonly X509Certificate[] {
  const known = parsed.get(pem);
  if (known !== undefined) return known;
  const texts = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? [];
  const all = texts.map((text) => new X509Certificate(text));
  if (parsed.size >= PARSED_MAX) parsed.clear();
  parsed.set(pem, all);
  return all;
}

function isTrusted(chain: readonly X509Certificate[], ca: string | undefined, nowMs: number) {
  const [leaf] = chain;
  if (leaf === undefined || ca === undefined) return false;
  const isNow = Date.parse(leaf.validFrom) <= nowMs && nowMs < Date.parse(leaf.validTo);
  return isNow && certificatesOf(ca).some(({ publicKey }) => leaf.verify(publicKey));
}

function present(socket: SimulatedSocket, own: TlsOptions, other: () => TlsOptions | null): void {
  const chain = () => certificatesOf(other()?.cert);
  let authorized: boolean | undefined;
  Object.defineProperties(socket, {
    encrypted: { value: true },
    authorized: {
      get: () => {
        authorized ??= isTrusted(chain(), own.ca, socket.life.unixMs());
        return authorized;
      },
    },
    getPeerCertificate: {
      value: (): PeerCertificate => {
        const [leaf, issuer] = chain();
        if (leaf === undefined) return {};
        const above = issuer === undefined ? {} : { issuerCertificate: { raw: issuer.raw } };
        return { raw: leaf.raw, ...above };
      },
    },
  });
}

/** Makes the client's end of a connection one of TLS. */
export function secureClient(socket: SimulatedSocket, options: TlsOptions): void {
  socket.identity = options;
  let other: TlsOptions | null = null;
  present(socket, options, () => other);
  socket.once('connect', () => {
    other = (socket.peer?.identity as TlsOptions | undefined) ?? null;
    const { authorized } = socket as unknown as { authorized: boolean };
    if (other !== null && (authorized || options.rejectUnauthorized === false)) {
      socket.emit('secureConnect');
    } else {
      socket.destroy(new Error('the other end has no certificate that is trusted'));
    }
  });
}

/** `createServer` of node:https. */
export function createTlsServer(options: TlsOptions, listener: RequestListener): Server {
  const server = createServer();
  let own = options;
  server.on('request', listener);
  server.prependListener('connection', (end) => {
    const socket = end as unknown as SimulatedSocket;
    const client = (socket.peer?.identity as TlsOptions | undefined) ?? null;
    present(socket, own, () => client);
  });
  return Object.assign(server, {
    setSecureContext: (next: TlsOptions) => {
      own = { ...own, ...next };
    },
    identity: () => own,
  });
}
