import { type GenerationEvent, GREEDY } from '@bridgekeeper/engine';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { ApiError } from '../http/errors.ts';
import { SETTINGS } from '../settings/table.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import { Choice } from './choice.ts';
import { CompletionLogprobs, promptLogprobs } from './logprobs.ts';

let text: ModelText;
beforeAll(async () => {
  text = await openModelText(SETTINGS.model.default);
});

const STYLE = { namesIds: false };
const finish = {
  reason: 'length' as const,
  cachedTokens: 0,
  timing: { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 },
};

/** What a choice says of these tokens, with their logprobs, taken after each piece. */
function written(pieces: readonly (readonly number[])[], stop: readonly string[]) {
  const request = { id: 'r', tenant: 't', promptTokens: Uint32Array.of(5), sampling: GREEDY };
  const options = {
    stop,
    includeStop: false,
    skipSpecialTokens: true,
    echoText: '',
    echoLogprobs: false,
    hideOutput: false,
    tokenIds: false,
  };
  const choice = new Choice(0, request, options, text, {
    cancel: () => {},
    blame: (message) => new ApiError('engine_failed', message),
  });
  const writer = new CompletionLogprobs(text, STYLE);
  const tokens: string[] = [];
  const offsets: number[] = [];
  let said = '';
  pieces.forEach((piece, at) => {
    const logprobs = piece.map(() => ({ logprob: -1, rank: 1, top: [] }));
    const last = at === pieces.length - 1;
    const event: GenerationEvent = { id: 'r', tokens: piece, logprobs };
    choice.receive(last ? { ...event, finish } : event, at);
    const delta = choice.take();
    said += delta.text;
    const part = writer.next(delta.logprobs, delta.text);
    tokens.push(...part.tokens);
    offsets.push(...part.text_offset);
    // Never beyond what a client has by then.
    for (const offset of part.text_offset) expect(offset).toBeLessThanOrEqual([...said].length);
  });
  return { said, tokens, offsets };
}

/** Words, and characters of several tokens each. */
const TEXTS = fc
  .array(fc.constantFrom('the', ' and', 'ï', '🌊', '☃', '\n', ' é', 'x'), { minLength: 1 })
  .map((parts) => parts.join(''));
const SIZES = fc.array(fc.integer({ min: 1, max: 5 }), { maxLength: 8 });

function cut(tokens: readonly number[], sizes: readonly number[]): number[][] {
  const pieces: number[][] = [];
  let at = 0;
  for (const size of sizes) {
    pieces.push(tokens.slice(at, at + size));
    at += size;
  }
  return [...pieces, tokens.slice(at)];
}

describe('logprobs of a completion, however it is cut', () => {
  test('join to its text, and begin in it where they say', () => {
    fc.assert(
      fc.property(TEXTS, SIZES, (input, sizes) => {
        const ids = [...text.tokenizer.encode(input, false)];
        // A stop string that is never whole holds text back.
        for (const stop of [[], ['thez', '🌊🌊🌊🌊🌊🌊🌊🌊🌊🌊🌊']]) {
          const { said, tokens, offsets } = written(cut(ids, sizes), stop);
          expect(said).toBe(input);
          expect(tokens).toHaveLength(ids.length);
          expect(tokens.join('')).toBe(input);
          let before = 0;
          tokens.forEach((token, at) => {
            expect(offsets[at]).toBe(before);
            before += [...token].length;
          });
        }
      }),
    );
  });

  test('do not leave a text that a stop string cut', () => {
    fc.assert(
      fc.property(TEXTS, SIZES, fc.constantFrom('the', ' a', '🌊', 'x\n'), (input, sizes, stop) => {
        const ids = [...text.tokenizer.encode(input, false)];
        const { said, tokens, offsets } = written(cut(ids, sizes), [stop]);
        const at = input.indexOf(stop);
        expect(said).toBe(at < 0 ? input : input.slice(0, at));
        expect(tokens.join('').startsWith(said)).toBe(true);
        for (const offset of offsets) expect(offset).toBeLessThanOrEqual([...said].length);
        expect([...offsets].sort((a, b) => a - b)).toEqual(offsets);
      }),
    );
  });
});

test('alternatives of one text have keys of their own', () => {
  const [wave, ...rest] = text.tokenizer.encode('🌊', false);
  const top = [wave!, ...rest].map((token, at) => ({ token, logprob: -1 - at }));
  // The last token of the character is named by it, and others by their bytes.
  const item = { token: rest.at(-1)!, text: '🌊', logprobs: { logprob: -9, rank: 4, top } };
  const [keys] = new CompletionLogprobs(text, STYLE).next([item], '🌊').top_logprobs;
  expect(Object.entries(keys!)).toEqual([
    ['🌊', -9],
    ['bytes:\\xf0', -1],
    ['bytes:\\x9f', -2],
    ['bytes:\\x8c', -3],
  ]);
  // Ids that have no text all have the same one.
  const none = [5000, 5001].map((token, at) => ({ token, logprob: -at }));
  const odd = { token: 600, text: '', logprobs: { logprob: -9, rank: 4, top: none } };
  const [named] = new CompletionLogprobs(text, STYLE).next([odd], '').top_logprobs;
  expect(Object.keys(named!)).toHaveLength(3);
});

test('bytes are two digits each', () => {
  const tokenizer = { tokenBytes: () => Uint8Array.of(5, 0xf0) } as never;
  const logprobs = { logprob: -1, rank: 2, top: [{ token: 1, logprob: -0.5 }] };
  const writer = new CompletionLogprobs({ ...text, tokenizer }, STYLE);
  const { tokens, top_logprobs: top } = writer.next([{ token: 2, text: '', logprobs }], '');
  expect(tokens).toEqual(['']);
  expect(top).toEqual([{ '': -1, 'bytes:\\x05\\xf0': -0.5 }]);
});

test('a prompt’s logprobs name each token by its id, with its rank', () => {
  const top = [
    { token: 600, logprob: -0.5 },
    { token: 700, logprob: Number.NEGATIVE_INFINITY },
  ];
  const given = [{ logprob: -0.75, rank: 5, top }];
  // Special ones are named too.
  const special = promptLogprobs(Uint32Array.of(5, 0), given, text)[1]!;
  expect(special[0]).toMatchObject({ decoded_token: text.tokenizer.specialTokens.eos_token });
  const word = (token: number) => text.tokenizer.decode([token], false);
  expect(promptLogprobs(Uint32Array.of(5, 800), given, text)).toEqual([
    null,
    {
      600: { logprob: -0.5, rank: 1, decoded_token: word(600) },
      700: { logprob: -9999, rank: 2, decoded_token: word(700) },
      800: { logprob: -0.75, rank: 5, decoded_token: word(800) },
    },
  ]);
});
