import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openCpuDevice } from '@bridgekeeper/device';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { engineOptions } from '../testing/run.ts';
import { compareObserved, compareReferences } from './agreement.ts';
import { checkRandomModel, type Peer, toleranceOf } from './model-check.ts';
import { writeModelFolder } from './model-folder.ts';
import { type ObservedSequence, observe } from './observe.ts';
import { RANDOM_MODELS, type RandomModel, type Traits } from './random-models.ts';
import { ReferenceModel, referenceE4m3 } from './reference-model.ts';

async function options(model: string) {
  const device = await openCpuDevice({ threads: 1 });
  return engineOptions(device, { model, policy: 'resident' });
}

test('every pair of traits occurs in some random model', () => {
  const all = RANDOM_MODELS.flatMap(({ traits }) => traits ?? []);
  const names = Object.keys(all[0]!) as (keyof Traits)[];
  const values = (name: keyof Traits) => new Set(all.map((traits) => traits[name]));
  for (const one of names) {
    for (const other of names.slice(names.indexOf(one) + 1)) {
      const pairs = new Set(all.map((traits) => `${traits[one]} ${traits[other]}`));
      const product = values(one).size * values(other).size;
      expect(pairs.size, `pairs of ${one} and ${other}`).toBe(product);
    }
  }
});

const [windowed, fp8] = RANDOM_MODELS.filter(({ quick }) => quick) as [RandomModel, RandomModel];

test('a random model agrees with float64', async () => {
  const check = await checkRandomModel(windowed, await options(''));
  expect(check.faults).toEqual([]);
  expect(check.spread).toBeGreaterThan(0.7);
  expect(check.greedyDecided).toBeGreaterThan(check.greedyTokens / 2);
  expect(check.peer).toBeUndefined();
});

test('a random model agrees with float64, and a peer that does not is told apart', async () => {
  const peer: Peer = async (folder, sequences) => {
    const reference = new ReferenceModel(folder);
    const slightlyOff = (line: Float64Array) => line.map((value) => value * 1.001);
    return sequences.map((tokens) => reference.logprobs(tokens).map(slightlyOff));
  };
  const { faults, ...check } = await checkRandomModel(fp8, await options(''), peer);
  expect(check.relativeError).toBeLessThan(1e-5);
  expect(check.peer!.engine.relativeError).toBeGreaterThan(1e-3);
  expect(faults).toEqual([expect.stringContaining("the reference's error to the peer")]);
});

test.each(RANDOM_MODELS.filter(({ traits, quick }) => traits === null && quick))(
  '$name agrees with float64',
  async (model) => {
    const check = await checkRandomModel(model, await options(''));
    expect(check.faults).toEqual([]);
    expect(check.spread).toBeGreaterThan(0.3);
    // In f32 hardly a token is torn between experts, and in bf16 some are.
    expect(check.routing).toBeLessThan(1e-4);
  },
);

/** Of bf16 with FP8 KV. */
const WIDEST_TOLERANCE = 8e-2;

describe('a wrong model is caught by the widest tolerance of all devices', () => {
  const model = RANDOM_MODELS.find(
    ({ traits }) => traits?.rope === 'llama3' && traits.weights === 'bf16' && traits.ratio === 3,
  )!;
  let folder: string;
  let sequences: readonly ObservedSequence[];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'bridgekeeper-wrong-model-'));
    await writeModelFolder(folder, model.folder);
    const all = await observe(model, await options(folder));
    // A long one and one of whose prompt all is known.
    sequences = [all.sequences[0]!, all.sequences[3]!];
  });
  afterAll(() => rm(folder, { recursive: true }));

  const linesOf = (reference: ReferenceModel) =>
    sequences.map(({ tokens }) => reference.logprobs(tokens));
  const errorOf = (wrong: ReferenceModel) =>
    compareObserved(sequences, linesOf(wrong)).relativeError;

  test('which the right one is far below', () => {
    const exact = linesOf(new ReferenceModel(folder));
    const rounded = linesOf(new ReferenceModel(folder, { roundKv: referenceE4m3 }));
    const rounding = compareReferences(sequences, exact, rounded).relativeError;
    expect(rounding).toBeGreaterThan(1e-2);
    // Rounding to E4M3 is told apart in f32, and the tolerance follows from it.
    expect(compareObserved(sequences, exact).relativeError).toBeLessThan(1e-5);
    expect(toleranceOf('f32', rounding)).toBeLessThan(rounding / 5);
    expect(toleranceOf('bf16', rounding)).toBeGreaterThan(rounding);
    expect(toleranceOf('bf16', rounding)).toBeLessThan(WIDEST_TOLERANCE);
  });

  test.each([
    ['another base', { rope_theta: 12_000 }],
    ['another factor', { factor: 4 }],
    ['no scaling', { rope_type: 'default' }],
    ['linear scaling', { rope_type: 'linear' }],
  ])('rope with %s', async (_, change) => {
    expect(errorOf(await withRope(folder, model, change))).toBeGreaterThan(WIDEST_TOLERANCE);
  });

  test('KV heads swapped in one layer', async () => {
    const file = join(folder, 'model.safetensors');
    const before = await readFile(file);
    await swapHalves(file, 'model.layers.1.self_attn.v_proj.weight');
    expect(errorOf(new ReferenceModel(folder))).toBeGreaterThan(WIDEST_TOLERANCE);
    await writeFile(file, before);
    await swapHalves(file, 'model.layers.1.self_attn.k_proj.weight');
    expect(errorOf(new ReferenceModel(folder))).toBeGreaterThan(WIDEST_TOLERANCE);
    await writeFile(file, before);
  });
});

async function withRope(
  folder: string,
  { folder: { config } }: RandomModel,
  change: Record<string, unknown>,
): Promise<ReferenceModel> {
  const file = join(folder, 'config.json');
  const before = await readFile(file, 'utf8');
  const rope = { ...(config!.rope_parameters as object), ...change };
  await writeFile(file, JSON.stringify({ ...JSON.parse(before), rope_parameters: rope }));
  const reference = new ReferenceModel(folder);
  await writeFile(file, before);
  return reference;
}

/** Swaps the first half of a tensor's rows with the second: two KV heads. */
async function swapHalves(path: string, name: string): Promise<void> {
  const file = await readFile(path);
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    { data_offsets: [number, number] }
  >;
  const [from, to] = header[name]!.data_offsets;
  const half = (to - from) / 2;
  const start = 8 + headerBytes + from;
  const handle = await open(path, 'r+');
  await handle.write(file.subarray(start + half, start + 2 * half), 0, half, start);
  await handle.write(file.subarray(start, start + half), 0, half, start + half);
  await handle.close();
}
