import { fileURLToPath } from 'node:url';
import { type GenerationEvent, GREEDY } from '@bridgekeeper/engine';
import fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { ApiError } from '../http/errors.ts';
import { SETTINGS } from '../settings/table.ts';
import { type ModelText, openModelText } from '../text/model-text.ts';
import { Choice, type ChoiceOptions } from './choice.ts';

let text: ModelText;

beforeAll(async () => {
  text = await openModelText(SETTINGS.model.default);
});

const TIMING = { queuedNs: 0, prefillNs: 0, decodeNs: 0, preemptions: 0 };

function choiceWith(options: Partial<ChoiceOptions>, minTokens = 0) {
  let cancelled = 0;
  const request = {
    id: 'r',
    tenant: 't',
    promptTokens: Uint32Array.of(5),
    sampling: { ...GREEDY, minTokens },
  };
  const choice = new Choice(
    0,
    request,
    {
      stop: [],
      includeStop: false,
      skipSpecialTokens: true,
      echoText: '',
      hideOutput: false,
      ...options,
    },
    text,
    {
      cancel: () => {
        cancelled += 1;
      },
      blame: (message) => new ApiError('engine_failed', message),
    },
  );
  return { choice, cancelled: () => cancelled };
}

/** Feeds tokens in pieces, taking after each, and ends with `reason`. */
function run(choice: Choice, pieces: readonly (readonly number[])[], reason: 'length' | 'stop') {
  let said = '';
  pieces.forEach((tokens, at) => {
    const last = at === pieces.length - 1;
    const finish = { reason, cachedTokens: 0, timing: TIMING };
    const event: GenerationEvent = { id: 'r', tokens, ...(last ? { finish } : {}) };
    choice.receive(event, at);
    said += choice.take().text;
  });
  return said;
}

const cut = (tokens: readonly number[], sizes: readonly number[]) => {
  const pieces: number[][] = [];
  let at = 0;
  for (const size of sizes) {
    pieces.push(tokens.slice(at, at + size));
    at += size;
  }
  pieces.push(tokens.slice(at));
  return pieces;
};

const SENTENCE = 'The sea was calm — naïve ☃ 🌊 — and nobody spoke. The end.';

describe('a choice', () => {
  test('says the same text however its events are cut', () => {
    const tokens = [...text.tokenizer.encode(SENTENCE, false)];
    fc.assert(
      fc.property(fc.array(fc.nat(5), { maxLength: 20 }), (sizes) => {
        const { choice } = choiceWith({});
        expect(run(choice, cut(tokens, sizes), 'length')).toBe(SENTENCE);
        expect(choice.completionTokens).toBe(tokens.length);
      }),
    );
  });

  test('ends at the first stop string, counts the tokens up to it, and cancels once', () => {
    const tokens = [...text.tokenizer.encode(SENTENCE, false)];
    const places = fc.record({
      from: fc.nat(SENTENCE.length - 2),
      length: fc.integer({ min: 1, max: 8 }),
      sizes: fc.array(fc.nat(5), { maxLength: 20 }),
    });
    fc.assert(
      fc.property(places, ({ from, length, sizes }) => {
        const stop = SENTENCE.slice(from, from + length);
        // A lone half of a surrogate pair is no text that a client could send.
        fc.pre(Buffer.from(stop).toString() === stop);
        const { choice, cancelled } = choiceWith({ stop: [stop] });
        expect(run(choice, cut(tokens, sizes), 'length')).toBe(
          SENTENCE.slice(0, SENTENCE.indexOf(stop)),
        );
        expect(choice.outcome?.reason).toBe('stop');
        expect(choice.completionTokens).toBeLessThanOrEqual(tokens.length);
        expect(cancelled()).toBe(1);
        const counted = text.tokenizer.decode(tokens.slice(0, choice.completionTokens), true);
        expect(counted).toContain(stop);
      }),
    );
  });

  test('looks for stop strings only after min_tokens', () => {
    const tokens = [...text.tokenizer.encode('the sea the sea', false)];
    const { choice } = choiceWith({ stop: [' sea'] }, tokens.length - 1);
    expect(run(choice, cut(tokens, []), 'length')).toBe('the sea the');
  });

  test('blames the engine when it ends unasked, and nobody when asked', () => {
    const finish = { reason: 'cancelled', cachedTokens: 0, timing: TIMING } as const;
    const unasked = choiceWith({}).choice;
    unasked.receive({ id: 'r', tokens: [], finish }, 0);
    unasked.take();
    expect(unasked.error?.code).toBe('engine_failed');
    const asked = choiceWith({}).choice;
    asked.abort();
    asked.receive({ id: 'r', tokens: [], finish }, 0);
    asked.take();
    expect(asked.error).toBeUndefined();
    expect(asked.outcome?.reason).toBe('abort');
  });
});

test('the bundled model is where the settings say', () => {
  const here = fileURLToPath(new URL('../../../../models/storyteller', import.meta.url));
  expect(SETTINGS.model.default).toBe(here);
});
