import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';

/** Hashes in a full tile of C2SP tlog-tiles, and entries in a full bundle. */
export const TILE_HASHES = 256;
const LEVEL_MAX = 6;

/** `width` hashes of parts of 256 ** level leaves, from the `index` * 256th of them on. */
export interface Tile {
  readonly level: number;
  readonly index: number;
  readonly width: number;
}

/** A log, as tiles are made from it. Null: it is not that long yet. */
export interface TileSource {
  published(): string;
  /** Hashes, 32 bytes each. */
  tile(tile: Tile): Buffer | null;
  /** Entries, each behind its length in two bytes. */
  entries(bundle: Omit<Tile, 'level'>): Buffer | null;
  /** That an entry is in what is published (C2SP tlog-proof). */
  proof(index: number): string | null;
}

/** `x001/x234/067` for 1234067: three digits a folder, so that none has too many files. */
export function tilePath(index: number): string {
  const groups = String(index)
    .padStart(3 * Math.ceil(String(index).length / 3), '0')
    .match(/.{3}/g)!;
  return groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join('/');
}

/** What a path of a log asks for; null: none that C2SP tlog-tiles has. */
export function readTilePath(path: string): (Tile & { readonly isOfEntries: boolean }) | null {
  const match =
    /^\/tile\/(entries|0|[1-9]\d?)\/((?:x\d{3}\/){0,4}\d{3})(?:\.p\/([1-9]\d{0,2}))?$/.exec(path);
  if (match === null) return null;
  const [, level, folders, width] = match as unknown as [string, string, string, string?];
  const index = Number(folders.replaceAll(/[x/]/g, ''));
  const tile = { index, width: width === undefined ? TILE_HASHES : Number(width) };
  const isOfEntries = level === 'entries';
  const isGood =
    tilePath(index) === folders &&
    tile.width <= (width === undefined ? TILE_HASHES : TILE_HASHES - 1) &&
    (isOfEntries || Number(level) <= LEVEL_MAX);
  return isGood ? { ...tile, level: isOfEntries ? 0 : Number(level), isOfEntries } : null;
}

/**
 * A log for readers, as C2SP tlog-tiles has it: `/checkpoint`, `/tile/...`, and what it has not:
 * `/proof/<index>`, a tlog-proof of one entry. It reads, and changes nothing.
 */
export function logListener(log: TileSource): RequestListener {
  return (request, response) => {
    try {
      answer(log, request, response);
    } catch {
      // Its disk failed, or an entry has changed on it: the agent says so, readers get nothing.
      if (response.headersSent) response.destroy();
      else response.writeHead(500, { 'cache-control': 'no-store' }).end();
    }
  };
}

function answer(log: TileSource, request: IncomingMessage, response: ServerResponse) {
  const end = (status: number, type: string, body: Buffer | string, cache: string) => {
    const head = {
      'content-type': type,
      'cache-control': cache,
      'x-content-type-options': 'nosniff',
    };
    return response.writeHead(status, head).end(request.method === 'HEAD' ? undefined : body);
  };
  const none = (status: 404 | 405, text: string) =>
    end(status, 'text/plain', `${text}\n`, 'no-store');
  if (request.method !== 'GET' && request.method !== 'HEAD') return none(405, 'GET');
  const path = request.url ?? '';
  if (path === '/checkpoint') {
    return end(200, 'text/plain; charset=utf-8', log.published(), 'no-store');
  }
  const index = /^\/proof\/(0|[1-9]\d{0,14})$/.exec(path)?.[1];
  if (index !== undefined) {
    const proof = log.proof(Number(index));
    if (proof === null) return none(404, 'no such entry is published yet');
    return end(200, 'text/plain; charset=utf-8', proof, 'no-store');
  }
  const tile = readTilePath(path);
  const bytes = tile === null ? null : tile.isOfEntries ? log.entries(tile) : log.tile(tile);
  if (bytes === null) return none(404, '/checkpoint, /tile/<level>/<index>, /proof/<index>');
  // What is in a tile never changes.
  return end(200, 'application/octet-stream', bytes, 'public, max-age=31536000, immutable');
}
