import { PORTABLE_TARGET } from './kernel-library.ts';
import type { KernelDefines, KernelUnit } from './kernel-source.ts';

/**
 * Lines up to which weights are streamed past them: beyond, larger tiles of tensor cores pay. Of
 * int4, of which more is unpacked in the same time, a tile of eight is no slower than one line.
 */
export const STREAM_LINES = { element: 4, 'fp8-e4m3': 4, int4: 8 } as const;

/** A translation unit as it is compiled ahead. */
export interface KernelVariant {
  readonly unit: KernelUnit;
  readonly defines: KernelDefines;
  readonly targets: readonly string[];
}

/** GPUs with a confidential mode: Hopper, B200, B300, RTX PRO 6000. */
const PORTABLE = ['sm_90a', 'sm_100a', 'sm_103a', 'sm_120a', PORTABLE_TARGET] as const;
/** What multiplies by warpgroups. */
const HOPPER = ['sm_90a'] as const;
const OTHERS = PORTABLE.filter((target) => target !== 'sm_90a');

const KV_FORMATS = [0, 1] as const;
const HEAD_DIMS = [64, 128] as const;
/** Query heads for each KV head, as far as one block serves them. */
const GROUPS = [1, 2, 3, 4, 5, 6, 7, 8] as const;
const PAGE_TOKENS = 16;
const DECODE_WARPS = 8;
/** The tiles of linear-skinny.ts. */
const SKINNY: readonly KernelDefines[] = [
  { FORMAT: 0, LINE_TILE: 8, WARPGROUPS: 2, RING_STAGES: 6, MIN_BLOCKS: 2 },
  { FORMAT: 0, LINE_TILE: 8, WARPGROUPS: 3, RING_STAGES: 6, MIN_BLOCKS: 1 },
  { FORMAT: 1, LINE_TILE: 8, WARPGROUPS: 2, RING_STAGES: 4, MIN_BLOCKS: 2 },
  { FORMAT: 1, LINE_TILE: 8, WARPGROUPS: 3, RING_STAGES: 6, MIN_BLOCKS: 1 },
  { FORMAT: 1, LINE_TILE: 16, WARPGROUPS: 2, RING_STAGES: 5, MIN_BLOCKS: 2 },
  { FORMAT: 1, LINE_TILE: 32, WARPGROUPS: 3, RING_STAGES: 6, MIN_BLOCKS: 1 },
  { FORMAT: 1, LINE_TILE: 64, WARPGROUPS: 3, RING_STAGES: 5, MIN_BLOCKS: 1 },
  { FORMAT: 2, LINE_TILE: 8, WARPGROUPS: 2, RING_STAGES: 8, MIN_BLOCKS: 2, STAGE_SPANS: 1 },
  { FORMAT: 2, LINE_TILE: 8, WARPGROUPS: 3, RING_STAGES: 12, MIN_BLOCKS: 1, STAGE_SPANS: 1 },
  { FORMAT: 2, LINE_TILE: 16, WARPGROUPS: 2, RING_STAGES: 6, MIN_BLOCKS: 2, STAGE_SPANS: 1 },
  { FORMAT: 2, LINE_TILE: 32, WARPGROUPS: 3, RING_STAGES: 9, MIN_BLOCKS: 1, STAGE_SPANS: 1 },
  { FORMAT: 2, LINE_TILE: 64, WARPGROUPS: 3, RING_STAGES: 7, MIN_BLOCKS: 1, STAGE_SPANS: 1 },
];

/** GPUs that share a model; the last is also what ranks of one GPU use. */
const RANKS: readonly KernelDefines[] = [2, 4, 8].map((RANKS) => ({ RANKS }));

/** The tiles of operations/experts.ts, in every format. */
const EXPERTS: readonly KernelDefines[] = [0, 1, 2, 3].flatMap((FORMAT) => [
  { FORMAT, LINE_TILE: 8, WARPS: 4, TILES_AHEAD: 8, IS_FEW: 1 },
  { FORMAT, LINE_TILE: 8, WARPS: 4, TILES_AHEAD: 4, IS_FEW: 0 },
  { FORMAT, LINE_TILE: 16, WARPS: 8, TILES_AHEAD: 4, IS_FEW: 0 },
  { FORMAT, LINE_TILE: 32, WARPS: 8, TILES_AHEAD: 4, IS_FEW: 0 },
]);

/** The tiles of operations/experts-stream.ts, in its formats. */
const EXPERT_STREAMS: readonly KernelDefines[] = [0, 1, 2].flatMap((FORMAT) =>
  [
    { LINE_TILE: 8, WARPS: 16, STAGES_AHEAD: 4 },
    { LINE_TILE: 8, WARPS: 16, STAGES_AHEAD: 2 },
    { LINE_TILE: 16, WARPS: 16, STAGES_AHEAD: 3 },
    { LINE_TILE: 16, WARPS: 16, STAGES_AHEAD: 2 },
  ].map((tile) => ({ FORMAT, ...tile })),
);

/** Layers of Gemma 4: with a window, and with full attention, whose values are keys. */
const GEMMA4 = KV_FORMATS.flatMap((KV_FORMAT) => [
  { HEAD_DIM: 256, KV_FORMAT, VALUE_NORM: 1 },
  { HEAD_DIM: 512, KV_FORMAT, VALUE_NORM: 1, LINE_KV: 1 },
]);
const GEMMA4_DECODE = GEMMA4.map((head) =>
  head.HEAD_DIM === 256
    ? { ...head, GROUP: 2, PAGE_TOKENS, DECODE_WARPS: 4 }
    : { ...head, GROUP: 8, PAGE_TOKENS, DECODE_WARPS: 2 },
);

/** Of DeepSeek V3 and Kimi K2. */
const LATENTS: readonly KernelDefines[] = [{ LATENT_RANK: 512, LATENT_ROTARY: 64 }];
/** Both directions, of few lines and of many. */
const HEAD_LINEAR = [0, 1].flatMap((FORMAT) =>
  [0, 1].flatMap((IS_TRANSPOSED) =>
    [16, 64].map((LINE_TILE) => ({ FORMAT, IS_TRANSPOSED, LINE_TILE })),
  ),
);

/** Lines of a tile where each expert has many of them. */
const MANY_LINES = [64, 128] as const;
const FORMATS_OF_EXPERTS = [0, 1, 2, 3] as const;
/** On Hopper another kernel has experts in it. */
const MXFP4 = 2;

/**
 * What models that people serve today launch, so that a first start compiles nothing. What is not
 * here is compiled when it is first wanted.
 */
export function commonVariants(): readonly KernelVariant[] {
  const heads = HEAD_DIMS.flatMap((HEAD_DIM) =>
    KV_FORMATS.map((KV_FORMAT) => ({ HEAD_DIM, KV_FORMAT })),
  );
  const decode = heads.flatMap((head) =>
    GROUPS.map((GROUP) => ({ ...head, GROUP, PAGE_TOKENS, DECODE_WARPS })),
  );
  // What checks drafts.
  const verify = decode
    .filter(({ HEAD_DIM, KV_FORMAT }) => HEAD_DIM === 128 && KV_FORMAT === 0)
    .map((defines) => ({ ...defines, IS_STORED: 1 }));
  const streamed = Object.values(STREAM_LINES).flatMap((most, FORMAT) =>
    Array.from({ length: most }, (_, i) => ({ LINE_COUNT: i + 1, FORMAT })),
  );
  const manyLines = MANY_LINES.map((LINE_TILE) => ({ LINE_TILE }));
  const warpgroups = FORMATS_OF_EXPERTS.filter((format) => format !== MXFP4).flatMap((FORMAT) =>
    manyLines.map((lines) => ({ FORMAT, ...lines, WGMMA: 1 })),
  );
  const warps = FORMATS_OF_EXPERTS.map((FORMAT) => ({ FORMAT, LINE_TILE: 64, WGMMA: 0 }));
  return [
    ...variants(['rows', 'draft', 'layers', 'route', 'sampling', 'grammar'], [{}]),
    ...variants(['branches'], [{}]),
    ...variants(['delta-net'], [{ KEY_DIM: 128 }]),
    ...variants(['pages', 'place', 'digest', 'linear-widen', 'int4-order'], [{}]),
    ...variants(['collective'], RANKS),
    ...variants(['experts'], EXPERTS),
    ...variants(['experts-stream'], EXPERT_STREAMS),
    ...variants(['experts-hopper'], [{ LINE_TILE: 32 }, ...manyLines], HOPPER),
    ...variants(['experts-tile'], warpgroups, HOPPER),
    ...variants(['experts-tile'], warps, OTHERS),
    ...variants(['rope'], [...heads, ...GEMMA4]),
    ...variants(['attention-prefill'], [...heads, ...GEMMA4.map(withoutNorm)]),
    ...variants(['attention-decode'], [...decode, ...verify, ...GEMMA4_DECODE]),
    ...variants(['latent-attention'], LATENTS),
    ...variants(['latent-attention-hopper'], LATENTS, HOPPER),
    ...variants(['head-linear'], HEAD_LINEAR),
    ...variants(['linear'], streamed),
    ...variants(['attention-prefill-hopper'], heads, HOPPER),
    ...variants(['linear-skinny'], SKINNY, HOPPER),
  ];
}

/** Attention over pages alone writes no values. */
function withoutNorm({ VALUE_NORM: _, ...heads }: (typeof GEMMA4)[number]): KernelDefines {
  return heads;
}

function variants(
  units: readonly KernelUnit[],
  all: readonly KernelDefines[],
  targets: readonly string[] = PORTABLE,
): readonly KernelVariant[] {
  return units.flatMap((unit) => all.map((defines) => ({ unit, defines, targets })));
}
