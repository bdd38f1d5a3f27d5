import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** What a peer says when it is ready. */
export const PEER_READY = '{"ready":{"torch":"2.0","transformers":"5.0"}}';

/**
 * Writes an interpreter into `folder` and returns its path. Whatever script it is given, it prints
 * `greeting`, and runs `body` (JavaScript) for each `line` of its input.
 */
export function interpreter(folder: string, greeting: string, body: string): string {
  const path = join(folder, `python-${greeting.length}-${body.length}`);
  const script = [
    `#!${process.execPath}`,
    `console.log(${JSON.stringify(greeting)});`,
    "require('readline').createInterface({ input: process.stdin }).on('line', (line) => {",
    body,
    '});',
  ];
  writeFileSync(path, script.join('\n'));
  chmodSync(path, 0o755);
  return path;
}
