import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { weightBytes } from '../loader/tensors/layout.ts';
import { smallConfig } from '../selftest/model-folder.ts';
import { describeModel } from './describe.ts';
import { ModelError } from './errors.ts';
import { readModelSpec } from './folder.ts';
import { fp8Of, isQuantized } from './quantization.ts';
import { weightTensors } from './weights.ts';

const specOf = (quantization: unknown) =>
  describeModel(smallConfig({ config: { quantization_config: quantization } }));

const FP8 = { quant_method: 'fp8' };
const WEIGHTS = { num_bits: 8, type: 'float', strategy: 'channel', symmetric: true };
const group = (weights: unknown, more = {}) => ({ targets: ['Linear'], weights, ...more });
const compressed = (groups: unknown, more = {}) => ({
  quant_method: 'compressed-tensors',
  format: 'float-quantized',
  config_groups: groups,
  ...more,
});

describe('quantization_config', () => {
  test('of a published block-wise checkpoint', async () => {
    const folder = new URL('../../../../packages/engine/configs/qwen3-8b-fp8', import.meta.url);
    const spec = await readModelSpec(fileURLToPath(folder));
    expect(spec.quantization).toEqual({
      method: 'fp8',
      grid: { type: 'block', outputs: 128, inputs: 128 },
      targets: [],
      ignored: [],
    });
    const [qkv, ...others] = weightTensors(spec).filter(({ format }) => format === 'fp8-e4m3');
    expect(others).toHaveLength(36 * 4 - 1);
    expect(qkv!.scales).toMatchObject({
      blockOutputs: 128,
      blockInputs: 128,
      rows: 48,
      columns: 32,
    });
    // 6.95e9 parameters in one byte, two tables of 0.62e9 in two, and a scale for each block.
    const table = 2 * 151_936 * 4096 * 2;
    const layers = 36 * 4096 * (6144 + 4096 + 3 * 12_288);
    const norms = 36 * (2 * 4096 + 2 * 128) * 2 + 4096 * 2;
    const scales = (layers / 128 / 128) * 4;
    expect(weightBytes(weightTensors(spec), 2)).toBe(table + layers + norms + scales);
  });

  test.each<[string, unknown, unknown]>([
    ['one scale a tensor', { ...FP8, activation_scheme: 'static' }, { type: 'tensor' }],
    ['an absent block size', { ...FP8, weight_block_size: null }, { type: 'tensor' }],
    ['channels', compressed({ group_0: group(WEIGHTS) }), { type: 'channel' }],
    [
      'compressed blocks',
      compressed({ a: group({ ...WEIGHTS, strategy: 'block', block_structure: [128, 64] }) }),
      { type: 'block', outputs: 128, inputs: 64 },
    ],
  ])('%s', (_, quantization, grid) => {
    expect(fp8Of(specOf(quantization).quantization)?.grid).toEqual(grid);
  });

  test.each<[Record<string, unknown>, string, string]>([
    [{ quant_method: 'mxfp4' }, 'unsupported', 'compressed-tensors'],
    [{ quant_method: 'bitsandbytes' }, 'unsupported', 'E4M3'],
    [{ load_in_8bit: true }, 'unsupported', 'unnamed'],
    [{ quant_method: 7 }, 'unsupported', '7'],
    [{ ...FP8, fmt: 'e5m2' }, 'unsupported', 'e4m3'],
    [{ ...FP8, weight_block_size: [128] }, 'malformed', 'weight_block_size'],
    [{ ...FP8, weight_block_size: [128, 0] }, 'malformed', 'weight_block_size'],
    [{ ...FP8, weight_block_size: '128x128' }, 'malformed', 'weight_block_size'],
    [{ ...FP8, modules_to_not_convert: 'lm_head' }, 'malformed', 'modules_to_not_convert'],
    [{ ...FP8, modules_to_not_convert: [1] }, 'malformed', 'modules_to_not_convert'],
    [{ ...FP8, ignored_layers: ['re:('] }, 'unsupported', 'no regular expression'],
    [{ ...FP8, ignored_layers: ['re:(a+)+$'] }, 'unsupported', 'costly'],
    [{ ...FP8, ignored_layers: ['re:.*.*.*.*.*x'] }, 'unsupported', 'costly'],
    [compressed({}), 'unsupported', 'one group'],
    [compressed(undefined), 'unsupported', 'one group'],
    [compressed({ a: group(WEIGHTS), b: group(WEIGHTS) }), 'unsupported', '2 groups'],
    [compressed({ a: {} }), 'malformed', 'weights'],
    [compressed({ a: group({ ...WEIGHTS, num_bits: 4 }) }), 'unsupported', 'num_bits'],
    [compressed({ a: group({ ...WEIGHTS, type: 'int' }) }), 'unsupported', 'int'],
    [compressed({ a: group({ ...WEIGHTS, symmetric: false }) }), 'unsupported', 'symmetric'],
    [compressed({ a: group({ ...WEIGHTS, strategy: 'group' }) }), 'unsupported', 'group'],
    [compressed({ a: group(WEIGHTS) }, { format: 'pack-quantized' }), 'unsupported', 'num_bits'],
    [compressed({ a: group(WEIGHTS) }, { format: 'int-quantized' }), 'unsupported', 'pack'],
    [compressed({ a: group(WEIGHTS) }, { quantization_status: 'frozen' }), 'unsupported', 'frozen'],
    [
      compressed({ a: group(WEIGHTS) }, { sparsity_config: { format: 'sparse-24-bitmask' } }),
      'unsupported',
      'sparse',
    ],
    [
      compressed({ a: group(WEIGHTS) }, { transform_config: { config_groups: {} } }),
      'unsupported',
      'transform',
    ],
  ])('refuses %j', (quantization, code, word) => {
    expect(() => specOf(quantization)).toThrow(
      expect.objectContaining({ code, message: expect.stringContaining(word) as string }),
    );
  });

  test('any value under any key gives a spec or a ModelError', () => {
    const keys = ['quant_method', 'weight_block_size', 'modules_to_not_convert', 'config_groups'];
    const value = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('fp8', 'compressed-tensors', { a: group(WEIGHTS) }, [128, 128]),
    );
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...keys, 'ignore', 'fmt'), value), (config) => {
        try {
          weightTensors(specOf({ ...FP8, ...config }));
        } catch (error) {
          expect(error).toBeInstanceOf(ModelError);
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('modules that are left out', () => {
  const layer = (rest: string) => `model.layers.1.${rest}`;

  test.each<[string, string, boolean]>([
    ['lm_head', 'lm_head', true],
    ['lm_head', layer('mlp.up_proj'), false],
    [layer('mlp.up_proj'), layer('mlp.up_proj'), true],
    ['model.layers.1', layer('mlp.up_proj'), true],
    ['model.layers.1', 'model.layers.10.mlp.up_proj', false],
    ['model.layers.1.*', layer('mlp.up_proj'), true],
    ['model.layers.*.mlp', layer('mlp.up_proj'), true],
    ['self_attn', layer('mlp.up_proj'), false],
    ['up_proj', layer('mlp.up_proj'), true],
    ['mlp.up', layer('mlp.up_proj'), false],
    ['re:.*mlp\\.(up|down)_proj$', layer('mlp.up_proj'), true],
    ['re:mlp', layer('mlp.up_proj'), false],
    ['re:model\\.layers\\.0\\.', layer('mlp.up_proj'), false],
  ])('%s and %s: %s', (entry, module, isLeftOut) => {
    const { quantization } = specOf({ ...FP8, modules_to_not_convert: [entry] });
    expect(isQuantized(quantization, module)).toBe(!isLeftOut);
  });

  test('targets other than Linear name what is quantised', () => {
    const targets = ['re:.*_proj$'];
    const { quantization } = specOf(compressed({ a: { ...group(WEIGHTS), targets } }));
    expect(isQuantized(quantization, layer('mlp.up_proj'))).toBe(true);
    expect(isQuantized(quantization, 'lm_head')).toBe(false);
  });

  test.each(['q_proj', 'k_proj', 'gate_proj', 'model.layers.1.mlp.up_proj'])(
    'a part of a stack is refused: %s',
    (name) => {
      const spec = specOf({ ...FP8, modules_to_not_convert: [name] });
      expect(() => weightTensors(spec)).toThrow(/one product here; supported: both or neither/);
    },
  );

  test('whole stacks and single layers keep elements', () => {
    const modules = ['q_proj', 'k_proj', 'v_proj', 'model.layers.0.mlp.down_proj'];
    const plan = weightTensors(specOf({ ...FP8, modules_to_not_convert: modules }));
    const formats = new Map(plan.map(({ label, format }) => [label, format]));
    expect(formats.get('layers.0.qkv')).toBe('element');
    expect(formats.get('layers.0.down')).toBe('element');
    expect(formats.get('layers.1.down')).toBe('fp8-e4m3');
    expect(formats.get('layers.0.gateUp')).toBe('fp8-e4m3');
    expect(formats.get('embed')).toBe('element');
    expect(formats.get('head')).toBe('element');
  });
});
