import { profileLaw, type ReferenceProfileName, referenceProfile } from '@bridgekeeper/bridge';
import {
  chainOn,
  chainToken,
  chainWord,
  hash32,
  openModelDevice,
  VirtualClock,
} from '@bridgekeeper/device';
import { describe, expect, it } from 'vitest';
import type { Engine } from '../engine.ts';
import { describeModel } from '../models/describe.ts';
import { POLICY_NAMES, type PolicyName } from '../policies/policy.ts';
import type { GenerationRequest } from '../request/request.ts';
import { pageBytes } from '../runner/shapes.ts';
import { smallConfig } from '../selftest/model-folder.ts';
import { engineOptions, generate, request, withEngine } from '../testing/run.ts';
import type { NgramOptions } from './ngram.ts';

// On a modelled GPU whose KV has contents, where each token is a hash of all that its row's pages
// lead to: a draft's key that is read where it should not be, or one that is not there yet, gives
// another answer than the prompt says.

/** So few tokens that a guess is right now and then. */
const VOCABULARY = 6;
const PAGE_TOKENS = 4;
const PAGES = 26;
const DRAFTS: NgramOptions = { drafts: 3, lookupMin: 1, lookupMax: 2, always: true };
const SPEC = describeModel(smallConfig({ config: { vocab_size: VOCABULARY } }));
/** Every other layer sees so many tokens: their pages are given back behind the window. */
const WINDOW = 7;
const WINDOWED = describeModel(
  smallConfig({
    architecture: 'Olmo3ForCausalLM',
    config: {
      vocab_size: VOCABULARY,
      sliding_window: WINDOW,
      layer_types: ['sliding_attention', 'full_attention'],
      max_position_embeddings: 1024,
    },
  }),
);

/** What the answer to a request is, by its text alone. */
function expectedAnswer(
  { promptTokens, sampling }: GenerationRequest,
  window: number | undefined,
): number[] {
  const text = [...promptTokens];
  const answer: number[] = [];
  const { seed, temperature, stopTokenIds, maxTokens } = sampling;
  while (answer.length < maxTokens) {
    const words = text.map((token, at) => chainWord(token, at));
    const ofAll = words.reduce(chainOn, 0);
    const chain =
      window === undefined ? ofAll : (ofAll + words.slice(-window).reduce(chainOn, 0)) | 0;
    const [low, high] = [Number(seed! & 0xffffffffn) | 0, Number(seed! >> 32n) | 0];
    const drawn = temperature === 0 ? null : { low, high, generated: answer.length };
    const token = chainToken(chain, drawn, VOCABULARY);
    text.push(token);
    answer.push(token);
    if (stopTokenIds.includes(token)) break;
  }
  return answer;
}

const draw = (seed: number, counter: number, below: number) =>
  (hash32(seed, 21, counter) >>> 0) % below;

interface Talk {
  /** Of prompts and of answers, at most. */
  readonly promptTokens: number;
  readonly answerTokens: number;
  readonly window?: number;
}

const SHORT: Talk = { promptTokens: 12, answerTokens: 24 };

/** A conversation: each turn goes on behind the answer to the one before it. */
async function converse(engine: Engine, seed: number, talk: Talk): Promise<void> {
  const { promptTokens, answerTokens, window } = talk;
  const length = 1 + draw(seed, 0, promptTokens);
  const text = Array.from({ length }, (_, i) => draw(seed >> 1, i + 1, 3));
  for (let turn = 0; turn < 3; turn++) {
    const at = 100 * (turn + 1);
    const wanted = request(`${seed}.${turn}`, text, {
      maxTokens: 1 + draw(seed, at, answerTokens),
      temperature: draw(seed, at + 1, 2),
      stopTokenIds: draw(seed, at + 2, 3) === 0 ? [] : [draw(seed, at + 3, VOCABULARY)],
      seed: BigInt(draw(seed, at + 4, 1e9)) << 16n,
    });
    const { tokens } = await generate(engine, wanted);
    expect(tokens, wanted.id).toEqual(expectedAnswer(wanted, window));
    text.push(...tokens, draw(seed, at + 5, VOCABULARY));
  }
}

async function talk(policy: PolicyName, law: ReferenceProfileName, speculation?: NgramOptions) {
  const clock = new VirtualClock();
  clock.runFreely();
  const imposed = profileLaw(referenceProfile(law));
  const device = openModelDevice({ clock, law: imposed, keepsKv: true });
  const kvBytes = PAGES * pageBytes(SPEC, { pageTokens: PAGE_TOKENS, kvFormat: 'element' }, 2);
  const sizes = { maxRows: 5, maxBatchTokens: 24, maxModelTokens: 96, pageTokens: PAGE_TOKENS };
  const options = { policy, speculation, spec: SPEC, dummy: true, kvBytes, ...sizes };
  return withEngine(engineOptions(device, options), async (engine) => {
    await Promise.all(Array.from({ length: 24 }, (_, seed) => converse(engine, seed, SHORT)));
    expect(engine.stats().kvUsage).toBe(0);
    return engine.stats();
  });
}

/** As `talk`, of long texts: pages of windows are used again and again, and rows wait for some. */
async function talkInWindows(
  policy: PolicyName,
  law: ReferenceProfileName,
  speculation?: NgramOptions,
) {
  const clock = new VirtualClock();
  clock.runFreely();
  const imposed = profileLaw(referenceProfile(law));
  const device = openModelDevice({ clock, law: imposed, keepsKv: true });
  const sizes = { maxRows: 12, maxBatchTokens: 24, maxModelTokens: 1024, pageTokens: PAGE_TOKENS };
  const kvBytes = 700 * pageBytes(WINDOWED, { pageTokens: PAGE_TOKENS, kvFormat: 'element' }, 2);
  const options = { policy, speculation, spec: WINDOWED, dummy: true, kvBytes, ...sizes };
  return withEngine(engineOptions(device, options), async (engine) => {
    const { window, kvPages } = engine.card.memory;
    expect(window).toMatchObject({ tokens: WINDOW });
    expect(window!.pages).toBeLessThan(kvPages);
    const texts = { promptTokens: 200, answerTokens: 150, window: WINDOW };
    await Promise.all(Array.from({ length: 40 }, (_, seed) => converse(engine, seed, texts)));
    expect(engine.stats().kvUsage).toBe(0);
    return engine.stats();
  });
}

describe('pages of windows', () => {
  it.each(POLICY_NAMES)('hold what their texts say, under %s', async (policy) => {
    for (const law of ['b300-cc', 'h100-native'] as const) {
      for (const speculation of [DRAFTS, undefined]) {
        const stats = await talkInWindows(policy, law, speculation);
        expect(stats.prefixHitTokens).toBeGreaterThan(0);
      }
    }
  });
});

describe('pages of rows that draft', () => {
  it.each(POLICY_NAMES)('hold what their texts say, under %s', async (policy) => {
    for (const law of ['b300-cc', 'h100-native'] as const) {
      const stats = await talk(policy, law, DRAFTS);
      expect(stats.prefixHitTokens).toBeGreaterThan(0);
      expect(stats.preemptions).toBeGreaterThan(0);
      const { draftTokens, acceptedTokens } = stats.speculation!;
      expect(acceptedTokens).toBeGreaterThan(0);
      expect(draftTokens).toBeGreaterThan(2 * acceptedTokens);
    }
  });

  it('hold it without drafts, also where a stop id is the last token of a page', async () => {
    const stats = await talk('resident', 'b300-cc');
    expect(stats.prefixHitTokens).toBeGreaterThan(0);
  });
});
