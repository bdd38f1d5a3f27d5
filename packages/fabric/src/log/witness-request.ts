import type { Hash } from './tree.ts';

/** What a log sends to a witness that has cosigned `old` entries (C2SP tlog-witness). */
export function witnessRequest(old: number, path: readonly Hash[], checkpoint: string): string {
  const lines = path.map((hash) => `${hash.toString('base64')}\n`).join('');
  return `old ${old}\n${lines}\n${checkpoint}`;
}
