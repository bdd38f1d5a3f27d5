import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { COMMAND_HEADER, COMMAND_HEADER_WORDS, ROW } from '../../row-layout.ts';
import { joinedUnits, type UnitVariant } from '../testing/joined-units.ts';
import { commonVariants } from './common-variants.ts';
import {
  KERNEL_UNITS,
  type KernelDefines,
  type KernelUnit,
  kernelProgram,
  rowLayoutHeader,
} from './kernel-source.ts';

const UNITS = Object.keys(KERNEL_UNITS) as KernelUnit[];
const HEADS = [
  { HEAD_DIM: 80, KV_FORMAT: 0 },
  { HEAD_DIM: 512, KV_FORMAT: 0, LINE_KV: 1 },
  { HEAD_DIM: 128, KV_FORMAT: 1 },
];
const SKINNY = { WARPGROUPS: 2, RING_STAGES: 4, MIN_BLOCKS: 1 };
/** What some of the units are compiled for. */
const VARIANTS: Readonly<Partial<Record<KernelUnit, readonly KernelDefines[]>>> = {
  linear: [
    { LINE_COUNT: 1, FORMAT: 0 },
    { LINE_COUNT: 3, FORMAT: 1 },
    { LINE_COUNT: 4, FORMAT: 2 },
  ],
  'linear-skinny': [
    { ...SKINNY, LINE_TILE: 8, FORMAT: 0 },
    { ...SKINNY, LINE_TILE: 64, FORMAT: 1 },
    { ...SKINNY, LINE_TILE: 16, FORMAT: 2, STAGE_SPANS: 1 },
  ],
  experts: [
    { FORMAT: 0, LINE_TILE: 32, WARPS: 8, TILES_AHEAD: 4, IS_FEW: 0 },
    { FORMAT: 1, LINE_TILE: 16, WARPS: 8, TILES_AHEAD: 4, IS_FEW: 0 },
    { FORMAT: 3, LINE_TILE: 32, WARPS: 8, TILES_AHEAD: 4, IS_FEW: 0 },
    { FORMAT: 2, LINE_TILE: 8, WARPS: 4, TILES_AHEAD: 8, IS_FEW: 1 },
  ],
  'experts-stream': [
    { FORMAT: 0, LINE_TILE: 8, WARPS: 16, STAGES_AHEAD: 4 },
    { FORMAT: 1, LINE_TILE: 16, WARPS: 16, STAGES_AHEAD: 3 },
    { FORMAT: 2, LINE_TILE: 8, WARPS: 16, STAGES_AHEAD: 4 },
  ],
  'experts-hopper': [{ LINE_TILE: 32 }, { LINE_TILE: 128 }],
  'experts-tile': [
    { FORMAT: 0, LINE_TILE: 128, WGMMA: 1 },
    { FORMAT: 1, LINE_TILE: 64, WGMMA: 1 },
    { FORMAT: 3, LINE_TILE: 128, WGMMA: 1 },
    { FORMAT: 2, LINE_TILE: 64, WGMMA: 0 },
  ],
  'head-linear': [
    { FORMAT: 1, IS_TRANSPOSED: 1, LINE_TILE: 64 },
    { FORMAT: 0, IS_TRANSPOSED: 0, LINE_TILE: 16 },
  ],
  'latent-attention': [{ LATENT_RANK: 80, LATENT_ROTARY: 32 }],
  'latent-attention-hopper': [{ LATENT_RANK: 512, LATENT_ROTARY: 64 }],
  rope: HEADS.map((heads, i) => ({ ...heads, VALUE_NORM: i % 2 })),
  'attention-decode': [
    { ...HEADS[0]!, GROUP: 1, PAGE_TOKENS: 24, DECODE_WARPS: 8 },
    { ...HEADS[1]!, GROUP: 8, PAGE_TOKENS: 16, DECODE_WARPS: 2, VALUE_NORM: 1 },
    { ...HEADS[2]!, GROUP: 8, PAGE_TOKENS: 16, DECODE_WARPS: 4 },
  ],
  'attention-prefill': HEADS,
  'attention-prefill-hopper': HEADS.filter(({ HEAD_DIM }) => HEAD_DIM <= 128),
};
const isForBlackwell = (unit: KernelUnit) =>
  commonVariants().some((each) => each.unit === unit && each.targets.includes('sm_103a'));

const PLAIN: readonly KernelDefines[] = [{}];
const variantsOf = (unit: KernelUnit) => VARIANTS[unit] ?? PLAIN;
/** Of each unit that which is compiled alone, for the newest GPU that has it. */
const aloneOf = (unit: KernelUnit) => variantsOf(unit).at(-1)!;
const HOPPER = ['-arch=compute_90a', '--ptx'];

const COMPILED = { status: 0, stderr: '' };
function compile(unit: KernelUnit, defines: KernelDefines, target: readonly string[]) {
  const { source, headers, options } = kernelProgram(unit, 'sm_90a', defines);
  const flags = options.filter((option) => option.startsWith('-D'));
  return compileFiles({ ...headers, 'unit.cu': source }, [...target, ...flags]);
}

function compileFiles(files: Readonly<Record<string, string>>, flags: readonly string[]) {
  const folder = mkdtempSync(join(tmpdir(), 'kernel-source-'));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const always = ['-std=c++17', '-Werror', 'all-warnings'];
    const output = ['-o', join(folder, 'unit.out'), join(folder, 'unit.cu')];
    const all = [...always, ...flags, ...output];
    const { status, stderr } = spawnSync('nvcc', all, { encoding: 'utf8' });
    return { status, stderr };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const hasNvcc = spawnSync('nvcc', ['--version']).status === 0;

describe('kernel sources', () => {
  it('get the row layout under the names of row-layout.ts', () => {
    const header = rowLayoutHeader();
    expect(header).toContain(`constexpr int COMMAND_HEADER_WORDS = ${COMMAND_HEADER_WORDS};`);
    expect(header).toContain(`constexpr int WORDS = ${COMMAND_HEADER.WORDS};`);
    expect(header).toMatch(/namespace ROW \{\nconstexpr int ACTIVE = 0;/);
    expect(header).toContain(`constexpr int STOP_IDS = ${ROW.STOP_IDS};`);
  });

  it('are one program whatever order their definitions come in', () => {
    const [a, b] = [
      { GROUP: 1, HEAD_DIM: 64 },
      { HEAD_DIM: 64, GROUP: 1 },
    ].map((defines) => kernelProgram('attention-decode', 'sm_90a', defines));
    expect(a).toEqual(b);
  });

  it.each(UNITS)('%s.cu defines its kernels and includes only what it is given', (unit) => {
    const { source, headers } = kernelProgram(unit, 'sm_90a');
    for (const name of KERNEL_UNITS[unit]) expect(source).toMatch(new RegExp(`\\b${name}\\(`));
    expect(source.match(/extern "C" __global__/g)).toHaveLength(KERNEL_UNITS[unit].length);
    for (const text of [source, ...Object.values(headers)]) {
      for (const [, included] of text.matchAll(/#include ["<](.+)[">]/g)) {
        expect(Object.keys(headers)).toContain(included);
      }
    }
  });

  // Where there is no compiler there is nothing to compile with: the GPU's own run compiles them
  // too.
  describe.runIf(hasNvcc)('for Hopper', () => {
    let joined: { status: number | null; stderr: string };
    beforeAll(() => {
      const all = UNITS.flatMap((unit) =>
        variantsOf(unit).map((each): UnitVariant => [unit, each]),
      );
      joined = compileFiles({ 'unit.cu': joinedUnits(all) }, HOPPER);
    }, 600_000);

    it.each(UNITS)('%s.cu compiles', (unit) => {
      for (const defines of variantsOf(unit)) {
        // Where not all compile together, each is asked for what is wrong with it. Beside headers
        // of the compiler, and not in a namespace, one of each is compiled here or for Blackwell.
        const isAlone = joined.status !== 0 || (defines === aloneOf(unit) && !isForBlackwell(unit));
        if (isAlone) expect(compile(unit, defines, HOPPER)).toEqual(COMPILED);
      }
    });

    it('all compile together', () => {
      expect(joined).toEqual(COMPILED);
    });
  });

  // To machine code: only the assembler knows what a GPU can do. Packing compiles every variant for
  // every GPU, which takes minutes.
  it.each(hasNvcc ? UNITS.filter(isForBlackwell) : [])('%s.cu compiles for Blackwell', (unit) => {
    expect(compile(unit, aloneOf(unit), ['-arch=sm_103a', '--cubin'])).toEqual(COMPILED);
  });
});
