/// <reference lib="dom" />
import { ask } from './api.ts';

export interface Report {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Where services answer with evidence: ours and NEAR AI's, then Tinfoil's. */
const REPORT_PATH = '/v1/attestation/report';
const PATHS = [REPORT_PATH, '/.well-known/tinfoil-attestation'] as const;
const BYTES_MAX = 16 * 2 ** 20;

/** The report of the server that sent this page, under that nonce. Throws Error. */
export async function ownReport(nonceHex: string): Promise<Report> {
  const response = await ask(`${REPORT_PATH}?nonce=${nonceHex}`);
  return { name: location.origin, bytes: new Uint8Array(await response.arrayBuffer()) };
}

/** What this page may ask besides its own server: the origin that its address names. */
export function allowedOrigin(): string | null {
  return new URLSearchParams(location.search).get('evidence');
}

/** Loads the page anew, under a policy that lets it ask that one address, and no other. */
export function openAddress(address: string): void {
  const given = /^https?:\/\//.test(address) ? address : `https://${address}`;
  const { origin } = new URL(given);
  const hash = `#/evidence?from=${encodeURIComponent(given)}`;
  location.assign(`${location.pathname}?evidence=${encodeURIComponent(origin)}${hash}`);
  // Where only what follows the hash differs, nothing is loaded.
  if (allowedOrigin() === origin) location.reload();
}

export interface Answered extends Report {
  /** Whether it answers a nonce. */
  readonly hasNonce: boolean;
}

/**
 * Evidence of another server, asked for by this page itself: no key goes there, no cookie, and no
 * server asks in its place. Throws Error that says what to do where it cannot be read.
 */
export async function reportFrom(address: string, nonceHex: string): Promise<Answered> {
  const given = new URL(address);
  const paths = given.pathname === '/' ? PATHS : [given.pathname];
  let problem = '';
  for (const path of paths) {
    const url = new URL(`${path}${given.pathname === '/' ? '' : given.search}`, given.origin);
    const hasNonce = path.endsWith(REPORT_PATH);
    if (hasNonce) url.searchParams.set('nonce', nonceHex);
    try {
      const init = {
        credentials: 'omit',
        redirect: 'error',
        referrerPolicy: 'no-referrer',
      } as const;
      const response = await fetch(url, init);
      if (!response.ok) {
        problem = `${url.origin}${path} answers with status ${response.status}.`;
        continue;
      }
      const bytes = new Uint8Array(await response.arrayBuffer());
      if (bytes.length > BYTES_MAX) throw new Error(`${address} sent ${bytes.length} bytes.`);
      return { name: url.origin, bytes, hasNonce };
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      problem =
        `${url.origin} does not answer, or lets no page of another origin read it (CORS). Save ` +
        `${url.origin}${path} and open it here, or run: bridgekeeper verify ${given.origin}`;
    }
  }
  throw new Error(problem);
}

const TINFOIL = /^https:\/\/tinfoil\.sh\/predicate\/(sev-snp|tdx)-guest\/v\d$/;
const QUOTE_BYTES_MAX = 2 ** 20;

/** Tinfoil's document holds a quote or report of the CPU, packed: what is verified is that. */
export async function unwrapped(report: Report): Promise<Report> {
  const { bytes } = report;
  if (bytes.length > BYTES_MAX || bytes[0] !== 0x7b) return report;
  let document: { readonly format?: unknown; readonly body?: unknown };
  try {
    document = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return report;
  }
  const { format, body } = document;
  if (typeof format !== 'string' || typeof body !== 'string' || !TINFOIL.test(format)) {
    return report;
  }
  const packed = Uint8Array.from(atob(body), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'));
  const parts: Uint8Array[] = [];
  let length = 0;
  const reader = stream.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    length += value.length;
    if (length > QUOTE_BYTES_MAX) throw new Error(`${report.name} unpacks to more than 1 MiB.`);
    parts.push(value);
  }
  const quote = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    quote.set(part, at);
    at += part.length;
  }
  return { name: `${report.name} (Tinfoil)`, bytes: quote };
}
