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

function choiceWith(
  options: Partial<ChoiceOptions>,
  minTokens = 0,
  promptTokens = Uint32Array.of(5),
) {
  let cancelled = 0;
  const request = {
    id: 'r',
    tenant: 't',
    promptTokens,
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
      echoLogprobs: false,
      hideOutput: false,
      tokenIds: false,
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

describe('what a choice keeps and counts', () => {
  const finish = (reason: 'length' | 'stop' | 'error' | 'cancelled', more = {}) => ({
    finish: { reason, cachedTokens: 3, timing: TIMING, ...more },
  });
  const logprob = (rank: number) => ({ logprob: -rank, rank, top: [] });
  const hear = (choice: Choice, event: Omit<GenerationEvent, 'id'>, nowNs = 0) =>
    choice.receive({ id: 'r', ...event }, nowNs);
  const SEA = () => [...text.tokenizer.encode('the sea', false)];

  test('has no news before the first event, and is ending with the last', () => {
    const { choice } = choiceWith({});
    expect([choice.hasNews, choice.isEnding, choice.pendingTokens]).toEqual([false, false, 0]);
    expect(choice.take()).toMatchObject({ text: '', parts: [], tokens: [], finish: undefined });
    hear(choice, { tokens: [500, 501] }, 5);
    hear(choice, { tokens: [502] }, 6);
    expect([choice.hasNews, choice.isEnding, choice.pendingTokens]).toEqual([true, false, 3]);
    hear(choice, { tokens: [], ...finish('length') }, 7);
    expect([choice.isEnding, choice.pendingTokens, choice.lastTokensNs]).toEqual([true, 3, 6]);
    expect(choice.take().finish).toEqual({ reason: 'length', stopReason: null });
    expect([choice.hasNews, choice.isEnding, choice.pendingTokens]).toEqual([false, false, 0]);
    expect(choice.completionTokens).toBe(3);
    expect(choice.outcome).toEqual({
      reason: 'length',
      cachedTokens: 3,
      timing: TIMING,
      crossings: [],
    });
  });

  test('names the stop token that ended it, and shows it only on request', () => {
    const tokens = SEA();
    const stopToken = tokens.at(-1)!;
    const run = (options: Partial<ChoiceOptions>, more = {}) => {
      const { choice } = choiceWith(options);
      hear(choice, { tokens, ...finish('stop', { stopToken }), ...more });
      return { ...choice.take(), counted: choice.completionTokens };
    };
    const hidden = text.tokenizer.decode(tokens.slice(0, -1), true);
    const end = { finish: { reason: 'stop', stopReason: stopToken }, counted: tokens.length };
    expect(run({})).toMatchObject({ text: hidden, ...end });
    expect(run({ includeStop: true })).toMatchObject({ text: 'the sea', ...end });
    // The same, token by token: where logprobs or stop strings are looked for.
    expect(run({ stop: ['zzz'] })).toMatchObject({ text: hidden, ...end });
    const logprobs = { logprobs: tokens.map((_, at) => logprob(at + 1)) };
    expect(run({ includeStop: true }, logprobs)).toMatchObject({ text: 'the sea', ...end });
    const { logprobs: items, text: shown } = run({}, logprobs);
    expect(shown).toBe(hidden);
    expect(items).toEqual(
      tokens.map((token, at) => {
        const isShown = at < tokens.length - 1;
        const said = isShown ? text.tokenizer.decode([token], true) : '';
        return { token, text: said, logprobs: logprob(at + 1) };
      }),
    );
  });

  test('ends by the model’s own end without naming it', () => {
    const { choice } = choiceWith({});
    const [stopToken] = text.endTokens;
    hear(choice, { tokens: [stopToken!], ...finish('stop', { stopToken }) });
    expect(choice.take().finish).toEqual({ reason: 'stop', stopReason: null });
  });

  test('shows an echo once, and the prompt’s logprobs, of which the first is not known', () => {
    // A character of several tokens, which are more than one anyway.
    const promptTokens = Uint32Array.from(text.tokenizer.encode('a🌊', false));
    const rest = Array.from(promptTokens.subarray(1), (_, at) => logprob(at + 1));
    const echoed = { echoText: 'a🌊', echoLogprobs: true };
    const { choice } = choiceWith(echoed, 0, promptTokens);
    hear(choice, { tokens: [], promptLogprobs: rest });
    const first = choice.take();
    expect(first.text).toBe('a🌊');
    expect(first.logprobs.map(({ token }) => token)).toEqual([...promptTokens]);
    expect(first.logprobs.map(({ logprobs }) => logprobs)).toEqual([undefined, ...rest]);
    const said = first.logprobs.map((item) => item.text);
    expect(said).toEqual(['a', ...Array(promptTokens.length - 2).fill(''), '🌊']);
    hear(choice, { tokens: SEA(), ...finish('length') });
    expect(choice.take().text).toBe('the sea');
  });

  test('says of an echo’s added special tokens that they add no text', () => {
    const promptTokens = Uint32Array.of(0, ...text.tokenizer.encode('a', false));
    const { choice } = choiceWith({ echoText: 'a', echoLogprobs: true }, 0, promptTokens);
    hear(choice, { tokens: [], promptLogprobs: [logprob(1)] });
    expect(choice.take().logprobs.map((item) => item.text)).toEqual(['', 'a']);
  });

  test('keeps the prompt’s logprobs apart from the answer’s without an echo', () => {
    const promptTokens = Uint32Array.of(5, 6);
    const { choice } = choiceWith({}, 0, promptTokens);
    hear(choice, { tokens: [], promptLogprobs: [logprob(1)] });
    expect(choice.take().logprobs).toEqual([]);
    expect(choice.promptLogprobs).toEqual([logprob(1)]);
  });

  test('gives token ids on request, up to the one that ends it', () => {
    const tokens = SEA();
    for (const options of [{}, { stop: ['zzz'] }]) {
      const { choice } = choiceWith({ tokenIds: true, ...options });
      hear(choice, { tokens, ...finish('stop', { stopToken: tokens.at(-1) }) });
      expect(choice.take().tokens).toEqual(tokens);
    }
    const { choice } = choiceWith({ tokenIds: true, stop: ['the'] });
    hear(choice, { tokens });
    expect(choice.take().tokens).toEqual(tokens.slice(0, choice.completionTokens));
  });

  test('holds logprobs back with the text that may become a stop string', () => {
    const tokens = SEA();
    const logprobs = tokens.map((_, at) => logprob(at + 1));
    const { choice } = choiceWith({ stop: ['sea gull'] });
    hear(choice, { tokens, logprobs });
    const before = choice.take();
    expect(before.text).toBe('the ');
    hear(choice, { tokens: [], ...finish('length') });
    const after = choice.take();
    const items = [...before.logprobs, ...after.logprobs];
    expect(before.logprobs.length).toBeLessThan(items.length);
    expect(before.logprobs.map((item) => item.text).join('').length).toBeLessThanOrEqual(4);
    expect(items.map((item) => item.text).join('')).toBe('the sea');
    expect(items.map((item) => item.logprobs)).toEqual(logprobs);
  });

  test('gives what an answer ends in the middle of to its last token', () => {
    const tokens = [...text.tokenizer.encode('a🌊', false)].slice(0, -1);
    const { choice } = choiceWith({});
    hear(choice, { tokens, logprobs: tokens.map(() => logprob(1)), ...finish('length') });
    const { text: said, logprobs } = choice.take();
    expect(said).not.toBe('a');
    expect(logprobs.map((item) => item.text).join('')).toBe(said);
  });

  test('begins with the character in which a prompt of token ids ends', () => {
    // The stand-ins of the bytes of a euro sign.
    const [first, second, third] = ['\u00e2', '\u0124', '\u00ac'].map(
      (string) => text.tokenizer.tokenId(string)!,
    );
    const { choice } = choiceWith({}, 0, Uint32Array.of(first!, second!));
    hear(choice, { tokens: [third!], ...finish('length') });
    expect(choice.take().text).toBe('\u20ac');
  });

  test('shows and counts nothing of an output that is hidden', () => {
    const { choice } = choiceWith({ hideOutput: true, echoText: 'echo' });
    hear(choice, { tokens: SEA(), ...finish('length') });
    expect(choice.take()).toMatchObject({ text: 'echo', finish: { reason: 'length' } });
    expect(choice.completionTokens).toBe(0);
  });

  test('gives what could still have become a stop string when nothing more comes', () => {
    const { choice } = choiceWith({ stop: ['sea gull'] });
    hear(choice, { tokens: SEA() });
    expect(choice.take().text).toBe('the ');
    hear(choice, { tokens: [], ...finish('length') });
    expect(choice.take()).toMatchObject({ text: 'sea', finish: { reason: 'length' } });
  });

  test('that stopped at a string says nothing of what came after it', () => {
    const { choice, cancelled } = choiceWith({ stop: ['the'] });
    hear(choice, { tokens: SEA() });
    expect(choice.take().text).toBe('');
    const counted = choice.completionTokens;
    hear(choice, { tokens: SEA() });
    hear(choice, { tokens: SEA(), ...finish('cancelled') });
    expect(choice.take()).toEqual({
      text: '',
      parts: [],
      logprobs: [],
      tokens: [],
      finish: { reason: 'stop', stopReason: 'the' },
    });
    expect([choice.completionTokens, cancelled()]).toEqual([counted, 1]);
    expect(choice.error).toBeUndefined();
  });

  test('ends with a character that is not complete as with one that is lost', () => {
    // The first byte of a snowman.
    const [first] = [...text.tokenizer.encode('☃', false)];
    for (const stop of [[], ['zzz']]) {
      const { choice } = choiceWith({ stop });
      hear(choice, { tokens: [...SEA(), first!] });
      choice.take();
      hear(choice, { tokens: [], ...finish('length') });
      expect(choice.take().text).toBe('\ufffd');
    }
  });

  test('a character that is lost may be the stop string', () => {
    const [first] = [...text.tokenizer.encode('☃', false)];
    const { choice } = choiceWith({ stop: ['\ufffd'] });
    hear(choice, { tokens: [...SEA(), first!] });
    choice.take();
    hear(choice, { tokens: [], ...finish('length') });
    expect(choice.take()).toMatchObject({ text: '', finish: { stopReason: '\ufffd' } });
  });

  test('passes on why the engine gave up, or says that it did', () => {
    for (const [more, message] of [
      [{ message: 'no memory' }, 'no memory'],
      [{}, 'The engine gave up.'],
    ] as const) {
      const { choice } = choiceWith({});
      hear(choice, { tokens: [], ...finish('error', more) });
      expect(choice.take().finish).toBeUndefined();
      expect(choice.error?.message).toBe(message);
      expect(choice.outcome?.reason).toBe('error');
    }
  });

  test('is cancelled once, and not when it has ended', () => {
    const twice = choiceWith({});
    twice.choice.abort();
    twice.choice.abort();
    expect(twice.cancelled()).toBe(1);
    for (const end of [
      (choice: Choice) => choice.refuse(),
      (choice: Choice) => choice.fail(new ApiError('engine_failed', 'lost')),
    ]) {
      const { choice, cancelled } = choiceWith({});
      end(choice);
      choice.abort();
      expect(cancelled()).toBe(0);
    }
  });

  test('that was refused or failed has that outcome', () => {
    const refused = choiceWith({}).choice;
    refused.refuse();
    expect(refused.outcome).toEqual({ reason: 'abort', cachedTokens: 0, timing: undefined });
    const failed = choiceWith({}).choice;
    const error = new ApiError('engine_failed', 'lost');
    failed.fail(error);
    expect(failed.outcome).toEqual({ reason: 'error', cachedTokens: 0, timing: undefined });
    expect(failed.error).toBe(error);
  });
});

test('the bundled model is where the settings say', () => {
  const here = fileURLToPath(new URL('../../../../models/storyteller', import.meta.url));
  expect(SETTINGS.model.default).toBe(here);
});
