import { invariant } from '@bridgekeeper/bridge';
import { type Device, ROW, ROW_WORDS, type Slice } from '@bridgekeeper/device';
import type { PreparedModel } from '../create.ts';
import { windowPagesOfRow } from '../kv/window-pool.ts';
import { launchForward, launchHead, slices } from '../runner/forward.ts';
import { pagesPerRow, windowSizesOf } from '../runner/shapes.ts';
import { timesNs } from './rates.ts';

/** What one step took, and how much of that time its launching kept the thread busy. */
export interface StepTime {
  /** The median; and the least and the most. */
  readonly stepNs: number;
  readonly minNs: number;
  readonly maxNs: number;
  readonly launchFraction: number;
}

function spreadOf(times: readonly number[]): Omit<StepTime, 'launchFraction'> {
  const sorted = times.toSorted((a, b) => a - b);
  return {
    stepNs: sorted[Math.floor(sorted.length / 2)]!,
    minNs: sorted[0]!,
    maxNs: sorted.at(-1)!,
  };
}

const NEVER = 0x7fffffff;

/** Writes words over the start of a buffer of the runner. */
export function write(
  { traffic }: PreparedModel,
  to: Slice,
  { buffer, byteOffset, byteLength }: Int32Array | Uint32Array,
): Promise<void> {
  return traffic.upload(new Uint8Array(buffer, byteOffset, byteLength), to, 'probe');
}

/** Random keys and values everywhere: zeros would be faster than real ones. */
async function fillKv({ parts, shape }: PreparedModel): Promise<void> {
  const { stream, buffers, element } = parts;
  const { kv, kvWindow } = slices(buffers);
  const type = shape.kvFormat === 'element' ? element : shape.kvFormat;
  for (const out of [kv, kvWindow]) {
    const elements = out.bytes / (type === 'f32' ? 4 : type === 'bf16' ? 2 : 1);
    stream.launch('fill-uniform', { out, elements, type, mean: 0, spread: 1, seed: 7 });
  }
  await stream.synchronize();
}

/** Whether `rows` rows of so many tokens have pages of their own. */
export function fitsKv(model: PreparedModel, rows: number, tokens: number): boolean {
  const { pageTokens, kvPages, windowPages } = model.shape;
  if (rows * Math.ceil(tokens / pageTokens) > kvPages) return false;
  return windowPages === 0 || rows * windowPagesOf(model, rows, tokens) <= windowPages;
}

/** Pages of a row's window: as it goes on, the last one takes the place of the first. */
function windowPagesOf({ shape, parts }: PreparedModel, rows: number, tokens: number): number {
  const sizes = windowSizesOf(parts.spec, shape)!;
  // A prompt that is alone writes a whole chunk before it reads.
  const most = rows === 1 ? shape.windowPages : windowPagesOfRow(sizes);
  return Math.min(Math.ceil(tokens / shape.pageTokens), most);
}

/** Pages for `rows` rows of `tokens`, each its own: shared ones would come from the cache. */
async function writePageTables(model: PreparedModel, rows: number, tokens: number): Promise<void> {
  invariant(fitsKv(model, rows, tokens), 'every row has pages of its own');
  const { shape, parts } = model;
  const { pageTable, windowTable } = slices(parts.buffers);
  const perRow = pagesPerRow(shape);
  const used = Math.ceil(tokens / shape.pageTokens);
  const tableOf = (own: number) => {
    const table = new Int32Array(rows * perRow).fill(-1);
    for (let row = 0; row < rows; row++) {
      for (let page = 0; page < used; page++) table[row * perRow + page] = row * own + (page % own);
    }
    return table;
  };
  await write(model, pageTable, tableOf(used));
  if (shape.windowPages === 0) return;
  await write(model, windowTable, tableOf(windowPagesOf(model, rows, tokens)));
}

export interface DecodeSetting {
  readonly batch: number;
  /** In the middle of what is measured: contexts grow by a token a step. */
  readonly contextTokens: number;
  readonly repeats: number;
  /** Steps of one measurement. */
  readonly steps: number;
}

/** A decode batch of rows with pages for so many tokens each, of random KV. */
export async function setUpRows(
  model: PreparedModel,
  {
    batch,
    bucket,
    tokens,
  }: { readonly batch: number; readonly bucket: number; readonly tokens: number },
): Promise<void> {
  const { shape, parts } = model;
  const { decodeRows } = slices(parts.buffers);
  invariant(batch <= shape.maxRows, 'the batch has rows');
  invariant(tokens <= shape.maxModelTokens, 'contexts stay within the page table');
  await fillKv(model);
  await writePageTables(model, batch, tokens);
  const lines = Int32Array.from({ length: bucket }, (_, row) => (row < batch ? row : -1));
  await write(model, decodeRows, lines);
}

/**
 * Times decode steps of rows that are set up on the device at a context length, with random KV: the
 * captured graphs that serving launches, and nothing else. The model is unfit for serving after.
 */
export async function measureDecode(
  device: Device,
  model: PreparedModel,
  { batch, contextTokens, repeats, steps }: DecodeSetting,
): Promise<StepTime> {
  const { parts, runner } = model;
  const { rows } = slices(parts.buffers);
  const first = Math.max(0, contextTokens - Math.floor(steps / 2));
  const bucket = runner.bucketOf(batch);
  await setUpRows(model, { batch, bucket, tokens: first + steps });
  const states = new Int32Array(batch * ROW_WORDS);
  const floats = new Float32Array(states.buffer);
  for (let row = 0; row < batch; row++) {
    const at = row * ROW_WORDS;
    states[at + ROW.ACTIVE] = 1;
    states[at + ROW.TOKEN] = row;
    states[at + ROW.POSITION] = first;
    states[at + ROW.REMAINING] = NEVER;
    floats[at + ROW.TOP_P] = 1;
    floats[at + ROW.REPETITION] = 1;
  }
  let launchNs = 0;
  const times: number[] = [];
  for (let repeat = 0; repeat <= repeats; repeat++) {
    await write(model, rows, states);
    const startedNs = device.clock.nowNs();
    runner.launchDecode(bucket, steps);
    const launchedNs = device.clock.nowNs();
    await parts.stream.synchronize();
    if (repeat === 0) continue;
    launchNs += launchedNs - startedNs;
    times.push((device.clock.nowNs() - startedNs) / steps);
  }
  const totalNs = times.reduce((sum, time) => sum + time * steps, 0);
  return { ...spreadOf(times), launchFraction: launchNs / totalNs };
}

export interface PrefillSetting {
  readonly tokens: number;
  readonly prefixTokens: number;
  readonly repeats: number;
}

/** Times the forward pass of one prompt's chunk, with the logits of its last token. */
export async function measurePrefill(
  device: Device,
  model: PreparedModel,
  { tokens, prefixTokens, repeats }: PrefillSetting,
): Promise<StepTime> {
  const { shape, parts } = model;
  const { stream, buffers, spec } = parts;
  const all = slices(buffers);
  invariant(tokens <= shape.maxBatchTokens, 'the chunk fits a batch');
  invariant(prefixTokens + tokens <= shape.maxModelTokens, 'the prompt fits a row');
  await fillKv(model);
  await writePageTables(model, 1, prefixTokens + tokens);
  const each = (value: (i: number) => number) =>
    Int32Array.from({ length: tokens }, (_, i) => value(i));
  await write(
    model,
    all.tokens,
    each((i) => (i * 7919) % spec.vocabularySize),
  );
  await write(
    model,
    all.tokenRows,
    each(() => 0),
  );
  await write(
    model,
    all.positions,
    each((i) => prefixTokens + i),
  );
  await write(model, all.select, Int32Array.of(tokens - 1));
  let launchNs = 0;
  let passes = 0;
  const launch = () => {
    const startedNs = device.clock.nowNs();
    launchForward(parts, tokens, [{ first: 0, count: tokens, phase: 'prefill' }]);
    const picked = { input: all.residual, out: all.selected, count: 1, width: spec.hiddenSize };
    stream.launch('select', { ...picked, indices: all.select });
    launchHead(parts, all.selected, 1);
    launchNs += device.clock.nowNs() - startedNs;
    passes += 1;
  };
  const times = await timesNs(device, stream, repeats, launch, 1);
  const spread = spreadOf(times);
  return { ...spread, launchFraction: launchNs / passes / spread.stepNs };
}
