import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { interpreter, PEER_READY } from '../testing/interpreter.ts';
import { PeerError, TransformersPeer } from './peer.ts';

const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-peer-'));
afterAll(() => rmSync(folder, { recursive: true }));

async function opened(python: string): Promise<TransformersPeer> {
  const peer = await TransformersPeer.open(python);
  if (!(peer instanceof TransformersPeer)) throw new Error(peer.skipped);
  return peer;
}

test('logits become log-probabilities, one line for each token of each sequence', async () => {
  const peer = await opened(
    interpreter(
      folder,
      PEER_READY,
      `const { sequences } = JSON.parse(line);
       const logits = sequences.map((tokens) => Buffer.from(
         new Float64Array(tokens.flatMap((token) => [token, token + Math.log(3)])).buffer,
       ).toString('base64'));
       console.log(JSON.stringify({ vocabulary: 2, logits }));`,
    ),
  );
  expect(peer.name).toBe('transformers 5.0, torch 2.0');
  for (const sequences of [[[5, 6], [7]], [[8]]]) {
    const lines = await peer.logprobs('anywhere', sequences);
    expect(lines.map(({ length }) => length)).toEqual(sequences.map(({ length }) => length));
    for (const [first, second] of lines.flat()) {
      expect(first).toBeCloseTo(Math.log(0.25), 12);
      expect(second).toBeCloseTo(Math.log(0.75), 12);
    }
  }
  await peer.close();
});

test('what cannot be had is skipped, with the reason', async () => {
  expect(await TransformersPeer.open(join(folder, 'nothing'))).toEqual({
    skipped: expect.stringContaining('ENOENT'),
  });
  const bare = interpreter(folder, '{"skipped":"no torch in this Python"}', 'process.exit();');
  expect(await TransformersPeer.open(bare)).toEqual({ skipped: 'no torch in this Python' });
});

test.each([
  ['an error of its own', 'console.log(\'{"error":"KeyError: x"}\');', 'failed', 'KeyError: x'],
  ['something else', "console.log('Loading...');", 'unreadable', 'answered: Loading...'],
  ['nothing', 'process.exit(1);', 'ended', 'without an answer'],
])('an answer that is %s is an error', async (_, body, code, message) => {
  const peer = await opened(interpreter(folder, PEER_READY, body));
  const answer = peer.logprobs('anywhere', [[1]]);
  await expect(answer).rejects.toBeInstanceOf(PeerError);
  await expect(answer).rejects.toMatchObject({ code });
  await expect(answer).rejects.toThrow(message);
  await peer.close();
});
