import { invariant } from '@bridgekeeper/bridge';
import {
  type Device,
  GRAMMAR_ROW_WORDS,
  grammarPlace,
  ROW,
  ROW_FLAG,
  ROW_WORDS,
} from '@bridgekeeper/device';
import type { PreparedModel } from '../create.ts';
import type { CompiledGrammar } from '../grammar/compiled.ts';
import { slices } from '../runner/forward.ts';
import { timesNs } from './rates.ts';
import { write } from './steps.ts';

/** Launches in one measured graph. */
const LAUNCHES = 20;

export interface MaskSetting {
  readonly rows: number;
  readonly grammar: CompiledGrammar;
  /** Where every row is: behind these tokens. null: no row has a grammar. */
  readonly tokens: readonly number[] | null;
  readonly repeats: number;
}

/** What one launch of `grammar-mask` takes among many of them, in nanoseconds: the median. */
export async function measureMasks(
  device: Device,
  model: PreparedModel,
  { rows: count, grammar, tokens, repeats }: MaskSetting,
): Promise<number> {
  const { parts, shape } = model;
  const { stream, vocabulary, spec } = parts;
  invariant(vocabulary !== null, 'the model was prepared with a vocabulary');
  invariant(count <= shape.maxRows, 'the batch has rows');
  const buffers = slices(parts.buffers);
  const { rows, grammarRows, grammarPool, masks, tokenRows } = buffers;
  const { tokenSpans, tokenHeads, tokenBytes } = buffers;
  // The grammar is alone in the pool, at its start.
  const place = grammarPlace(grammar.words, vocabulary, -1, tokens ?? []);
  const states = new Int32Array(count * ROW_WORDS);
  const places = new Int32Array(count * GRAMMAR_ROW_WORDS);
  for (let row = 0; row < count; row++) {
    states[row * ROW_WORDS + ROW.FLAGS] = tokens === null ? 0 : ROW_FLAG.GRAMMAR;
    places.set(place, row * GRAMMAR_ROW_WORDS);
  }
  await write(model, rows, states);
  await write(model, grammarRows, places);
  await write(model, grammarPool, grammar.words);
  await write(
    model,
    tokenRows,
    Int32Array.from({ length: count }, (_, row) => row),
  );
  const tables = { grammarRows, grammarPool, tokenSpans, tokenHeads, tokenBytes };
  const lines = { rows, lineRows: tokenRows, masks, count, vocab: spec.vocabularySize };
  const launchMask = () => stream.launch('grammar-mask', { ...tables, ...lines });
  await device.prepare(stream, launchMask);
  const graph = device.capture(stream, 'masks', () => {
    for (let launch = 0; launch < LAUNCHES; launch++) launchMask();
  });
  const times = await timesNs(device, stream, repeats, () => stream.launchGraph(graph), 10);
  device.discard(graph);
  const sorted = times.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]! / LAUNCHES;
}
