import type { FetchTile, PostToWitness } from '@bridgekeeper/fabric';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';

const ANSWER_SECONDS = 10;
const COSIGNATURES_BYTES_MAX = 64 * 1024;

/** Whether a log is at an address, and not in a folder. */
export const isLogAddress = (log: string) => /^https?:\/\//i.test(log);

/** What a witness answers, within bounds. */
export const postToWitness: PostToWitness = async (url, body) => {
  const { status, bytes } = await exchange(url, COSIGNATURES_BYTES_MAX, { method: 'POST', body });
  return { status, body: bytes.toString() };
};

/** The files of a log at an address. */
export function fetchTiles(base: string): FetchTile {
  return async (path, bytesMax) => {
    const url = `${base.replace(/\/$/, '')}${path}`;
    const { status, bytes } = await exchange(url, bytesMax, {});
    if (status !== 200) throw new Error(`${url} answers ${status}`);
    return bytes;
  };
}

async function exchange(url: string, bytesMax: number, options: RequestInit) {
  const stop = new AbortController();
  const cancel = HOST_CLOCK.after(ANSWER_SECONDS, () => stop.abort());
  try {
    const response = await fetch(url, { ...options, redirect: 'error', signal: stop.signal });
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    for await (const piece of response.body ?? []) {
      bytes += piece.length;
      if (bytes > bytesMax) throw new Error(`${url} answers more than ${bytesMax} bytes`);
      pieces.push(piece);
    }
    return { status: response.status, bytes: Buffer.concat(pieces) };
  } finally {
    cancel();
  }
}
