import { bytesPerElement, slice } from '../device.ts';
import type { PagedParts } from '../ops.ts';
import { type ContractCase, expectDeviceError, expectSame } from './case.ts';
import { filled } from './filled.ts';
import { benchCase, type Workbench } from './workbench.ts';

/** Whole pages and parts; pages of a vector and longer than a block; more than a launch takes. */
const SHAPES = [
  { pageBytes: 16, fromBytes: 0, partBytes: 16, count: 5, moved: 5 },
  { pageBytes: 4096 + 48, fromBytes: 0, partBytes: 4096 + 48, count: 9, moved: 4 },
  { pageBytes: 9008, fromBytes: 112, partBytes: 1024, count: 7, moved: 7 },
  { pageBytes: 96, fromBytes: 80, partBytes: 16, count: 200, moved: 131 },
] as const;

type Shape = (typeof SHAPES)[number];

/** Random pages, some of them named in random order, each once. */
async function pagesOf(bench: Workbench, shape: Shape) {
  const { pageBytes, fromBytes, partBytes, count, moved } = shape;
  const bytes = filled(new Uint8Array(count * pageBytes), () => bench.dice.integer(0, 255));
  const pages = bench.dice.permutation(count).slice(0, moved);
  const parts: PagedParts = {
    kv: await bench.uploadBytes(bytes),
    pageBytes,
    fromBytes,
    partBytes,
    pages,
  };
  const what = `${moved} of ${count} pages of ${pageBytes} bytes`;
  return { bytes, parts, what };
}

async function gather(bench: Workbench, shape: Shape): Promise<void> {
  const { bytes, parts, what } = await pagesOf(bench, shape);
  const { pages, pageBytes, fromBytes, partBytes } = parts;
  const out = await bench.poisoned(16 + pages.length * partBytes);
  bench.launch('gather-pages', {
    ...parts,
    out: { ...out, offsetBytes: 16, bytes: out.bytes - 16 },
  });
  const expected = new Uint8Array(out.bytes).fill(0xff, 0, 16);
  pages.forEach((page, i) => {
    const from = page * pageBytes + fromBytes;
    expected.set(bytes.subarray(from, from + partBytes), 16 + i * partBytes);
  });
  expectSame(`gathered ${what}`, await bench.downloadBytes(out), expected);
  expectSame(`what was gathered from, ${what}`, await bench.downloadBytes(parts.kv), bytes);
}

async function scatter(bench: Workbench, shape: Shape): Promise<void> {
  const { bytes, parts, what } = await pagesOf(bench, shape);
  const { pages, pageBytes, fromBytes, partBytes } = parts;
  const input = filled(new Uint8Array(pages.length * partBytes), () => bench.dice.integer(0, 255));
  bench.launch('scatter-pages', { ...parts, input: await bench.uploadBytes(input) });
  pages.forEach((page, i) => {
    const part = input.subarray(i * partBytes, (i + 1) * partBytes);
    bytes.set(part, page * pageBytes + fromBytes);
  });
  expectSame(`scattered ${what}`, await bench.downloadBytes(parts.kv), bytes);
}

/**
 * What tiers do: pages are put aside, others take their place at once, and later they come back to
 * other pages; all in the order of one stream.
 */
async function roundTrip(bench: Workbench): Promise<void> {
  const pageBytes = 2048;
  const kept = filled(new Uint8Array(6 * pageBytes), () => bench.dice.integer(0, 255));
  const kv = await bench.uploadBytes(kept);
  const others = await bench.uploadBytes(new Uint8Array(3 * pageBytes).fill(7));
  const staging = slice(bench.device.allocate(3 * pageBytes, 'contract staging'));
  const whole = { kv, pageBytes, fromBytes: 0, partBytes: pageBytes };
  bench.launch('gather-pages', { ...whole, pages: [4, 0, 5], out: staging });
  bench.launch('scatter-pages', { ...whole, pages: [0, 4, 5], input: others });
  bench.launch('scatter-pages', { ...whole, pages: [1, 2, 3], input: staging });
  const expected = new Uint8Array(kept.length).fill(7);
  [4, 0, 5].forEach((page, i) => {
    const content = kept.subarray(page * pageBytes, (page + 1) * pageBytes);
    expected.set(content, (i + 1) * pageBytes);
  });
  expectSame('pages that moved', await bench.downloadBytes(kv), expected);
  bench.device.free(staging.buffer);
}

async function refuse(bench: Workbench): Promise<void> {
  const kv = await bench.poisoned(4 * 64);
  const side = await bench.uploadBytes(new Uint8Array(2 * 64));
  const good = { kv, pageBytes: 64, fromBytes: 0, partBytes: 64, pages: [0, 1] };
  const bad: readonly [string, Partial<PagedParts>][] = [
    ['a page behind the last', { pages: [0, 4] }],
    ['a page before the first', { pages: [-1] }],
    ['a part behind its page', { fromBytes: 16 }],
    ['a part of no bytes', { partBytes: 0 }],
    ['a part of odd size', { partBytes: 24 }],
    ['more pages than there is room for', { pages: [0, 1, 2] }],
  ];
  for (const [what, changes] of bad) {
    await expectDeviceError(`to gather ${what}`, 'bad-argument', () =>
      bench.launch('gather-pages', { ...good, ...changes, out: side }),
    );
    await expectDeviceError(`to scatter ${what}`, 'bad-argument', () =>
      bench.launch('scatter-pages', { ...good, ...changes, input: side }),
    );
  }
  expectSame('pages after refusals', await bench.downloadBytes(kv), Array(4 * 64).fill(0xff));
}

/** Behind a page number and in bytes, more than 32 bits count. */
async function gatherFar(bench: Workbench): Promise<void> {
  const pageBytes = 2 ** 26;
  const pages = 34;
  const buffer = bench.device.allocate(pages * pageBytes, 'contract far pages');
  const kv = slice(buffer);
  const mark = filled(new Uint8Array(64), () => bench.dice.integer(0, 255));
  const far = { kv, pageBytes, fromBytes: pageBytes - 64, partBytes: 64, pages: [pages - 1] };
  bench.launch('scatter-pages', { ...far, input: await bench.uploadBytes(mark) });
  const out = await bench.poisoned(64);
  bench.launch('gather-pages', { ...far, out });
  expectSame('a part of a far page', await bench.downloadBytes(out), mark);
  bench.device.free(buffer);
}

export const pageCases: readonly ContractCase[] = [
  benchCase('gather-pages', 'arithmetic', async (bench) => {
    for (const shape of SHAPES) await gather(bench, shape);
  }),
  benchCase('scatter-pages', 'arithmetic', async (bench) => {
    for (const shape of SHAPES) await scatter(bench, shape);
  }),
  benchCase('pages are put aside and come back in order', 'arithmetic', roundTrip),
  benchCase('parts that are no parts of pages are refused', 'no arithmetic', refuse),
  benchCase('gather-pages and scatter-pages beyond 2 GiB', 'arithmetic', async (bench) => {
    // The cpu device has no memory to give away, and counts in float64.
    if (bytesPerElement(bench.element) === 2) await gatherFar(bench);
  }),
];
