import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StreamReader } from './stream-reader.ts';

const chunk = (text: string) => `data: {"choices":[{"text":${JSON.stringify(text)}}]}\n\n`;
const usage = { prompt_tokens: 4, completion_tokens: 2 };

describe('a stream', () => {
  test('is the same events wherever the network cut it', () => {
    const stream = [
      ': ping\n\n',
      chunk('one'),
      `event: message\r\n${chunk('data: [DONE]\n\n').replaceAll('\n', '\r\n')}`,
      `data: ${JSON.stringify({ choices: [], usage })}\n\n`,
      'data: {"error":{"code":"engine_failed"}}\n\n',
      'data: [DONE]\n\n',
    ].join('');
    const whole = new StreamReader().push(stream);
    expect(whole).toEqual([
      { kind: 'chunk', hasOutput: true, usage: undefined },
      { kind: 'chunk', hasOutput: true, usage: undefined },
      { kind: 'chunk', hasOutput: false, usage },
      { kind: 'error', error: { code: 'engine_failed' } },
      { kind: 'done' },
    ]);
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length)), (cuts) => {
        const places = [0, ...cuts.sort((a, b) => a - b), stream.length];
        const reader = new StreamReader();
        const events = places
          .slice(1)
          .flatMap((end, i) => reader.push(stream.slice(places[i], end)));
        expect(events).toEqual(whole);
      }),
    );
  });

  test.each(['data: {"choices":[\n', 'data: <html>\n', 'data: null\n', 'data: 7\n'])(
    'that is none is refused: %j',
    (text) => {
      expect(() => new StreamReader().push(text)).toThrow(/an event is/);
    },
  );
});
