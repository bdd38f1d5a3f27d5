import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { extname } from 'node:path';
import { gzipSync } from 'node:zlib';

/** One file of the console, as a server sends it. */
export interface ConsoleFile {
  readonly type: string;
  readonly body: Buffer;
  /** The same, for those who take it. */
  readonly gzipped: Buffer;
  /** Quoted, as the header ETag is. */
  readonly etag: string;
}

/** What sends it: one engine's server, a control plane, or an agent with its log. */
export type ConsoleServer = 'serve' | 'control' | 'log';

const FOLDER = new URL('../page/', import.meta.url);
const INDEX = 'index.html';
const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
};

const known = new Map<ConsoleServer, ReadonlyMap<string, ConsoleFile>>();

/** The built console by file name; empty where it was not built. Read once in a process. */
export function readConsole(server: ConsoleServer): ReadonlyMap<string, ConsoleFile> {
  let files = known.get(server);
  if (files === undefined) {
    files = filesOf(server);
    if (files.size > 0) known.set(server, files);
  }
  return files;
}

function filesOf(server: ConsoleServer): ReadonlyMap<string, ConsoleFile> {
  const files = new Map<string, ConsoleFile>();
  for (const name of namesIn(FOLDER)) {
    const type = TYPES[extname(name)];
    if (type === undefined) continue;
    const read = readFileSync(new URL(name, FOLDER));
    const body = name === INDEX ? written(read, server) : read;
    const etag = `"${createHash('sha256').update(body).digest('hex').slice(0, 32)}"`;
    files.set(name, fileOf(type, body, etag));
  }
  return files;
}

/** Packed when a browser first asks: a server that none looks at starts without that work. */
function fileOf(type: string, body: Buffer, etag: string): ConsoleFile {
  let packed: Buffer | undefined;
  return {
    type,
    body,
    etag,
    get gzipped() {
      packed ??= gzipSync(body, { level: 9 });
      return packed;
    },
  };
}

/** The page says who sent it: it needs no question to know what it shows. */
function written(page: Buffer, server: ConsoleServer): Buffer {
  return Buffer.from(page.toString().replace('data-server="serve"', `data-server="${server}"`));
}

function namesIn(folder: URL): string[] {
  try {
    return readdirSync(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/**
 * Headers of everything that the console loads: only what its server sends runs, it calls that
 * server alone, and nothing may frame it. `evidenceOf`: an origin whose evidence this one page may
 * ask for, besides; its user named it in the page's address.
 */
export function consoleHeaders(evidenceOf: string | null): Readonly<Record<string, string>> {
  return {
    'Content-Security-Policy': [
      "default-src 'none'",
      "script-src 'self'",
      "style-src 'self'",
      `connect-src 'self'${evidenceOf === null ? '' : ` ${evidenceOf}`}`,
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
      "require-trusted-types-for 'script'",
      "trusted-types 'none'",
    ].join('; '),
    'Referrer-Policy': 'no-referrer',
    'X-Content-Type-Options': 'nosniff',
    'Cache-Control': 'no-cache',
  };
}

const ADDRESS_CHARACTERS_MAX = 512;

/** The origin of an `https` address, or of one on this machine; null: it is neither. */
export function evidenceOrigin(address: string | undefined): string | null {
  if (address === undefined || address.length > ADDRESS_CHARACTERS_MAX) return null;
  if (!URL.canParse(address)) return null;
  const { protocol, hostname, origin } = new URL(address);
  const isHere = /^(127\.0\.0\.1|localhost|\[::1\])$/.test(hostname);
  if (protocol !== 'https:' && !(protocol === 'http:' && isHere)) return null;
  // What is not a plain host could end the directive that it is written into.
  return /^https?:\/\/[a-z0-9.:[\]-]+$/.test(origin) ? origin : null;
}

/** A file as a browser with that Accept-Encoding gets it. */
export function sentAs({ body, gzipped }: ConsoleFile, accepted: string | undefined) {
  const takesGzip = /(^|,)\s*gzip\s*(,|;(?!\s*q=0(\.0*)?\s*(,|$))|$)/i.test(accepted ?? '');
  const vary = { Vary: 'Accept-Encoding' };
  if (!takesGzip) return { body, headers: vary };
  return { body: gzipped, headers: { ...vary, 'Content-Encoding': 'gzip' } };
}

/** The console before what else a server answers: `/console` and what it loads. */
export function consoleListener(server: ConsoleServer, next: RequestListener): RequestListener {
  const files = readConsole(server);
  return (request, response) => {
    const { pathname, searchParams } = pathOf(request);
    if (pathname !== '/console' && !pathname.startsWith('/console/')) {
      return next(request, response);
    }
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    const name = pathname === '/console' ? INDEX : pathname.slice('/console/'.length);
    const file = isRead ? files.get(name) : undefined;
    if (file === undefined) return refuse(response, isRead ? 404 : 405);
    const origin = evidenceOrigin(searchParams.get('evidence') ?? undefined);
    const headers = { ...consoleHeaders(origin), ETag: file.etag };
    if (request.headers['if-none-match'] === file.etag) {
      return response.writeHead(304, headers).end();
    }
    const { body, headers: packed } = sentAs(file, request.headers['accept-encoding']);
    const about = { 'Content-Type': file.type, 'Content-Length': body.byteLength, ...packed };
    response.writeHead(200, { ...headers, ...about });
    return response.end(request.method === 'HEAD' ? undefined : body);
  };
}

function pathOf({ url = '/' }: IncomingMessage): URL {
  return URL.canParse(url, 'http://localhost')
    ? new URL(url, 'http://localhost')
    : new URL('http://localhost/console/none');
}

function refuse(response: ServerResponse, status: 404 | 405): void {
  response.writeHead(status, { 'Content-Type': 'text/plain', 'Cache-Control': 'no-store' });
  response.end('There is no such file of the console: see GET /console.\n');
}
