import fc from 'fast-check';
import { expect, test } from 'vitest';
import { attendedBy, busiestAssignments, busiestExperts, expectedExperts, opCost } from './cost.ts';
import type { Slice } from './device.ts';
import { elementMatrix, type OpArgs } from './ops.ts';
import { hash32 } from './random.ts';

const buffer = { id: 1, bytes: 1 << 20, label: 'test' };
const some: Slice = { buffer, offsetBytes: 0, bytes: 1 << 20 };
const noPeek = () => {
  throw new Error('this cost does not depend on memory');
};

test('a product reads its weights once and computes twice per weight and line', () => {
  const sizes = { count: 3, inputs: 100, outputs: 70 };
  const args: OpArgs['linear'] = {
    ...elementMatrix(some),
    ...sizes,
    input: some,
    norm: null,
    normOffset: 0,
    epsilon: 0,
    activation: 'silu',
    bias: null,
    out: some,
    workspace: some,
    epilogue: 'store',
    outType: 'bf16',
  };
  const bytesOf = (more: object) => opCost('linear', { ...args, ...more }, 'bf16', noPeek).bytes;
  expect(opCost('linear', args, 'bf16', noPeek)).toEqual({
    bytes: 2 * (7000 + 300 + 210),
    operations: 2 * 3 * 7000,
  });
  expect(bytesOf({ bias: some, outType: 'f32' })).toBe(2 * (7000 + 300 + 70) + 4 * 210);
  expect(bytesOf({ norm: some, epilogue: 'add' })).toBe(2 * (7000 + 300 + 100 + 2 * 210));
  expect(bytesOf({ epilogue: 'gate' })).toBe(2 * (7000 + 300 + 105));
  const fp8 = { format: 'fp8-e4m3', scales: some, blockOutputs: 32, blockInputs: 64 } as const;
  expect(bytesOf(fp8)).toBe(7000 + 4 * 3 * 2 + 2 * (300 + 210));
  const int4 = { format: 'int4', scales: some, blockOutputs: 1, blockInputs: 50 } as const;
  expect(bytesOf(int4)).toBe(3500 + 4 * 70 * 2 + 2 * (300 + 210));
});

test('loading moves what it places, and reads what it checks once', () => {
  const shape = { rows: 8, columns: 10, columnsFrom: 2, columnsTo: 6, rowGroups: 1 };
  const place = { ...shape, input: some, out: some, inputOffsetBytes: 0, isTransposed: false };
  const args = { ...place, from: 'f32', to: 'bf16', first: 20, count: 40 } as const;
  expect(opCost('place', args, 'bf16', noPeek)).toEqual({ bytes: 16 * (4 + 2), operations: 0 });
  const sum = opCost('checksum', { input: some, bytes: 1000, out: some }, 'bf16', noPeek);
  expect(sum.bytes).toBe(1000 + 8);
  const tree = { input: some, bytes: 1000, leafBytes: 512, scratch: some, out: some };
  // Two digests are written and read, and one written.
  expect(opCost('hash-tree', tree, 'bf16', noPeek).bytes).toBe(1000 + 2 * 64 + 32);
});

test('attention reads the KV of the positions that its tokens attend to', () => {
  const tokenRows: Slice = { ...some, offsetBytes: 0, bytes: 16 };
  const positions: Slice = { ...some, offsetBytes: 16, bytes: 16 };
  const peek = (slice: Slice) =>
    Int32Array.from(slice === tokenRows ? [0, 2, -1, 1] : [99, 9, 1000, 0]);
  const heads = { kvHeads: 2, headDim: 8 };
  const places = { pageElements: 512, layerElement: 0, pageTokens: 16, pagesPerRow: 9 };
  const geometry = { ...heads, ...places };
  const cost = opCost(
    'attention',
    {
      ...geometry,
      qkv: some,
      lineKv: 'keys and values',
      valueNorm: false,
      sinks: null,
      out: some,
      kv: some,
      pageTable: some,
      tokenRows,
      positions,
      rope: some,
      rotaryDim: 8,
      queryNorm: null,
      keyNorm: null,
      normOffset: 0,
      epsilon: 0,
      kvFormat: 'element',
      count: 4,
      heads: 4,
      scale: 1,
      window: 0,
      phase: 'decode',
    },
    'bf16',
    peek,
  );
  // 100 + 10 + 1 positions are read and 4 written, of K and V in 2 heads of 8 in bf16; 4 lines of 4
  // heads go in and out, and of 2 K and V heads in.
  expect(cost.bytes).toBe(115 * 2 * 2 * 8 * 2 + 4 * (4 + 4 + 2 * 2) * 8 * 2);
  expect(cost.operations).toBe(4 * 111 * 4 * 8);
});

test('a prefill run reads shared positions once, a window hides the oldest', () => {
  const rows = Int32Array.from([5, 5, 5, 6]);
  const positions = Int32Array.from([10, 11, 12, 3]);
  expect(attendedBy(rows, positions, 4, 0)).toEqual({ pairs: 11 + 12 + 13 + 4, positions: 13 + 4 });
  // Of [7..10], [8..11], [9..12] and [0..3].
  expect(attendedBy(rows, positions, 4, 4)).toEqual({ pairs: 16, positions: 6 + 4 });
});

test('positions read are those that some token of a run sees', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(40), fc.integer({ min: 1, max: 12 })), { maxLength: 4 }),
      fc.nat(10),
      (runs, window) => {
        const rows: number[] = [];
        const positions: number[] = [];
        let read = 0;
        let pairs = 0;
        runs.forEach(([start, length], row) => {
          const seen = new Set<number>();
          for (let p = start; p < start + length; p++) {
            rows.push(row);
            positions.push(p);
            const first = window > 0 ? Math.max(0, p + 1 - window) : 0;
            for (let j = first; j <= p; j++) seen.add(j);
            pairs += p + 1 - first;
          }
          read += seen.size;
        });
        const attended = attendedBy(
          Int32Array.from(rows),
          Int32Array.from(positions),
          rows.length,
          window,
        );
        expect(attended).toEqual({ pairs, positions: read });
      },
    ),
  );
});

test('experts cost the bytes of those that are expected to be hit, and no others', () => {
  const groups = { chosen: some, starts: some, order: some, allExperts: 8, topK: 2 };
  const codes = { format: 'mxfp4', scales: some, blockOutputs: 1, blockInputs: 32 } as const;
  const parts = { weight: some, input: some, bias: null, weights: some } as const;
  const down = { ...groups, ...codes, ...parts, epilogue: 'add' } as const;
  const costOf = (count: number, experts = 8) =>
    opCost(
      'expert-down',
      { ...down, experts, count, inputs: 64, outputs: 10, out: some, workspace: some },
      'bf16',
      noPeek,
    );
  // 10 rows of 64 codes and 2 scales each; of 8 experts one line hits 2, two lines 3.5.
  const expert = 10 * (32 + 2);
  expect(costOf(1)).toEqual({
    bytes: 2 * expert + 2 * (2 * 64 + 2 * 10),
    operations: 2 * 2 * 64 * 10,
  });
  expect(costOf(2).bytes).toBe(3.5 * expert + 2 * 2 * (2 * 64 + 2 * 10));
  // Enough lines hit all.
  expect(costOf(1000).bytes).toBeCloseTo(8 * expert + 1000 * 2 * (2 * 64 + 2 * 10), 3);
  // Of two devices with half of the experts each, the busier one has more than half of it all.
  const [hit, assigned] = [busiestExperts(8, 2, 2, 2), busiestAssignments(8, 2, 2, 2)];
  expect(hit).toBeGreaterThan(1.75);
  expect(hit).toBeLessThan(3.5);
  expect(assigned).toBeGreaterThan(2);
  expect(assigned).toBeLessThan(4);
  expect(costOf(2, 4)).toEqual({
    bytes: hit * expert + 2 * 2 * (2 * 64 + 2 * 10),
    operations: 2 * assigned * 64 * 10,
  });
});

/** What `lines` that choose evenly come to on the busiest rank, drawn so many times. */
function drawnBusiest(experts: number, topK: number, lines: number, ranks: number) {
  const own = experts / ranks;
  const draws = 300;
  let hits = 0;
  let assignments = 0;
  for (let draw = 0; draw < draws; draw++) {
    const hit = new Set<number>();
    const assigned = new Array<number>(ranks).fill(0);
    for (let line = 0; line < lines; line++) {
      const left = Array.from({ length: experts }, (_, expert) => expert);
      for (let k = 0; k < topK; k++) {
        const at = (hash32(draw, line, k) >>> 0) % left.length;
        const [expert] = left.splice(at, 1);
        hit.add(expert!);
        assigned[Math.floor(expert! / own)]! += 1;
      }
    }
    const byRank = new Array<number>(ranks).fill(0);
    for (const expert of hit) byRank[Math.floor(expert / own)]! += 1;
    hits += Math.max(...byRank) / draws;
    assignments += Math.max(...assigned) / draws;
  }
  return { hits, assignments };
}

test.each([
  [128, 4, 1, 2],
  [128, 4, 8, 2],
  [128, 4, 32, 4],
  [128, 8, 8, 8],
  [32, 4, 64, 2],
] as const)('the busiest with %i experts, %i a line, %i lines, %i ranks', (a, b, c, d) => {
  const drawn = drawnBusiest(a, b, c, d);
  expect(busiestExperts(a, b, c, d) / drawn.hits).toBeCloseTo(1, 1);
  expect(busiestAssignments(a, b, c, d) / drawn.assignments).toBeCloseTo(1, 1);
});

test('one rank has all experts that are hit, and all assignments', () => {
  expect(busiestExperts(128, 4, 9, 1)).toBe(expectedExperts(128, 4, 9));
  expect(busiestAssignments(128, 4, 9, 1)).toBe(36);
});
