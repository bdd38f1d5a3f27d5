import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  algorithmOf,
  type MatmulStub,
  type Offer,
  openMatmulStub,
} from '../testing/matmul-stub.ts';
import { Matmul, type MatmulOperands, type MatmulShape, WORKSPACE_BYTES } from './matmul.ts';
import { MatmulChoices, type MatmulMachine } from './matmul-choices.ts';
import { MatmulTuner } from './matmul-tuner.ts';

const SHAPE: MatmulShape = {
  count: 8,
  inputs: 64,
  outputs: 128,
  outType: 'bf16',
  hasBias: false,
  accumulate: false,
};
const MACHINE: MatmulMachine = {
  gpu: 'Stub 80GB',
  architecture: 'sm_90a',
  multiprocessors: 132,
  cublasLt: 130100,
  workspaceBytes: WORKSPACE_BYTES,
};
const US = 1000;

let root: string;
let stub: MatmulStub;
let folder: string;
let matmul: Matmul;
let caches = 0;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'matmul-'));
  if (hasCompiler) stub = openMatmulStub(root);
});
afterAll(() => rmSync(root, { recursive: true }));

const operands = (weight: bigint): MatmulOperands => ({
  input: 1n,
  weight,
  bias: null,
  out: 2n,
  workspace: 3n,
  stream: stub.stream,
});
const choices = () => new MatmulChoices(folder, MACHINE);
function tuner(tuned = matmul): MatmulTuner {
  const { driver, clock } = stub;
  return new MatmulTuner({ driver, matmul: tuned, clock, store: choices() });
}
/** A tuner's work on the shapes, each with three weights, slice by slice. */
function slices(by: MatmulTuner, shapes: readonly MatmulShape[], launchedBy = matmul) {
  return by.refine({ handle: stub.stream, capture: stub.capture }, () => {
    for (const shape of shapes) {
      for (const weight of [10n, 20n, 30n]) launchedBy.launch(shape, operands(weight));
    }
  });
}
/** All of it. Whether anything changed. */
function refine(by: MatmulTuner, ...shapes: readonly MatmulShape[]): boolean {
  return runToEnd(slices(by, shapes));
}
function runToEnd(work: Generator<undefined, boolean>): boolean {
  for (;;) {
    const { done, value } = work.next();
    if (done === true) return value;
  }
}
/** The number, from 1, of the algorithm that a launch uses. */
function launched(shape = SHAPE, by = matmul): number {
  by.launch(shape, operands(10n));
  return stub.read('algorithm');
}

describe.each(hasCompiler ? ['compiled stub'] : [])('matrix products by a %s', () => {
  beforeEach(() => {
    folder = join(root, `cache${++caches}`);
    stub.reset();
    matmul = new Matmul(stub.lt);
    stub.offer([{ costNs: 30 * US }, { costNs: 20 * US }, { costNs: 25 * US }]);
  });

  describe('Matmul', () => {
    it('takes what the heuristic proposes first', () => {
      expect(launched()).toBe(1);
      expect(stub.read('beta')).toBe(0);
    });

    it('takes what is ready for a count near by, the next larger before a smaller one', () => {
      stub.offer([
        { costNs: US, count: 100 },
        { costNs: US, count: 200 },
        { costNs: US, count: 300 },
        { costNs: US },
      ]);
      const ready = (count: number) => launched({ ...SHAPE, count });
      expect(matmul.makeReady(() => [ready(300), ready(100)])).toEqual([3, 1]);
      expect([ready(101), ready(200), ready(300), ready(310)]).toEqual([1, 3, 3, 3]);
      expect([ready(70), ready(49), ready(601)]).toEqual([1, 4, 4]);
      // Other shapes have nothing to do with it; what is ready later counts for what comes then.
      expect(launched({ ...SHAPE, count: 200, accumulate: true })).toBe(2);
      expect(matmul.makeReady(() => ready(200))).toBe(2);
      expect([ready(150), ready(200)]).toEqual([2, 2]);
      expect(matmul.isGuess({ ...SHAPE, count: 150 })).toBe(true);
    });

    it('asks where the library does not take it for another count', () => {
      stub.offer([{ costNs: US, count: 300 }, { costNs: US }]);
      matmul.makeReady(() => launched({ ...SHAPE, count: 300 }));
      stub.offer([{ costNs: US }]);
      expect(launched({ ...SHAPE, count: 200 })).toBe(1);
    });

    it('adds where it is to', () => {
      expect(launched({ ...SHAPE, accumulate: true })).toBe(1);
      expect(stub.read('beta')).toBe(1);
    });

    it('tells where the bias lies before every launch', () => {
      const shape = { ...SHAPE, hasBias: true };
      for (const bias of [0x1234567890n, 0x90n]) {
        matmul.launch(shape, { ...operands(10n), bias });
        expect(stub.read('bias')).toBe(Number(bias));
      }
    });

    it('says that nothing was launched where there is no algorithm', () => {
      stub.offer([]);
      expect(matmul.launch(SHAPE, operands(10n))).toBe(false);
      expect(stub.read('launches')).toBe(0);
    });

    it.each<[string, Offer]>([
      ['adds up in place', { costNs: 1, reduction: 1 }],
      ['rounds the parts of sums', { costNs: 1, reduction: 4 }],
      ['is not supported after all', { costNs: 1, state: 15 }],
      ['needs more workspace than there is', { costNs: 1, workspaceBytes: WORKSPACE_BYTES + 1 }],
    ])('leaves out what %s', (_, offer) => {
      const good = { costNs: 30, reduction: 2 };
      stub.offer([offer, good]);
      expect(matmul.candidates(SHAPE, 4)).toEqual([algorithmOf(2, good)]);
      expect(matmul.accepts(SHAPE, algorithmOf(2, good))).toBe(true);
      expect(matmul.accepts(SHAPE, algorithmOf(1, offer))).toBe(false);
    });

    it('accepts only what is an algorithm', () => {
      const algorithm = algorithmOf(1, { costNs: 30 * US });
      expect(matmul.accepts(SHAPE, algorithm)).toBe(true);
      expect(matmul.accepts(SHAPE, algorithm.subarray(0, 63))).toBe(false);
      expect(matmul.accepts(SHAPE, Buffer.alloc(64, 1))).toBe(false);
    });

    it('forgets plans rather than gather them, but no choice, and frees what it made', () => {
      matmul.choose(SHAPE, matmul.candidates(SHAPE, 2)[1]!);
      for (let count = 100; count < 1400; count++) matmul.launch({ ...SHAPE, count }, operands(1n));
      expect(stub.read('alive')).toBe(4 * 1024);
      expect(launched()).toBe(2);
      matmul.close();
      expect(stub.read('alive')).toBe(0);
    });
  });

  describe('MatmulTuner', () => {
    it('chooses the fastest, by the weights of all layers, and leaves nothing behind', () => {
      const planned = 4;
      refine(tuner(), SHAPE);
      expect(stub.read('repeats')).toBe(0);
      expect(stub.read('alive')).toBe(planned);
      expect(launched()).toBe(2);
      expect(launched({ ...SHAPE, count: 9 })).toBe(1);
    });

    it('keeps the first where another is hardly better', () => {
      stub.offer([{ costNs: 10_000 }, { costNs: 9_950 }, { costNs: 20_000 }]);
      refine(tuner(), SHAPE);
      expect(launched()).toBe(1);
      stub.offer([{ costNs: 10_000 }, { costNs: 9_850 }]);
      refine(tuner(), { ...SHAPE, count: 9 });
      expect(launched({ ...SHAPE, count: 9 })).toBe(2);
    });

    it('is not misled by what disturbs now and then', () => {
      stub.offer([{ costNs: 10_300 }, { costNs: 10_000 }, { costNs: 10_100 }]);
      for (const period of [3, 4, 5, 7, 11]) {
        const shape = { ...SHAPE, count: period };
        stub.disturb(period, 90);
        refine(tuner(), shape);
        expect(launched(shape)).toBe(2);
      }
    });

    it('tries what is proposed for other counts, as far as it is taken', () => {
      const far = { costNs: 1, count: 1000 };
      const taken = { costNs: 15 * US, count: 4 };
      const tooWide = { costNs: 1, count: 16, workspaceBytes: WORKSPACE_BYTES + 1 };
      stub.offer([{ costNs: 30 * US }, far, { costNs: 20 * US }, tooWide, taken]);
      refine(tuner(), SHAPE);
      expect(launched()).toBe(5);
    });

    it('passes over what is taken back at its launch', () => {
      const refused = { costNs: 1, isRefused: true };
      stub.offer([{ costNs: 300 }, refused, { costNs: 200 }, refused]);
      refine(tuner(), SHAPE);
      expect(launched()).toBe(3);
    });

    it('passes over shapes that the library cannot do', () => {
      stub.offer([]);
      refine(tuner(), SHAPE);
      expect(choices().read().size).toBe(0);
    });

    it('says whether a launch has another algorithm now', () => {
      expect(refine(tuner(), SHAPE)).toBe(true);
      expect(refine(tuner(), SHAPE)).toBe(false);
      stub.offer([{ costNs: 10 * US }, { costNs: 20 * US }]);
      expect(refine(tuner(), { ...SHAPE, count: 9 })).toBe(false);
    });

    it('tunes each shape once: the next process starts with what this one chose', () => {
      const other = { ...SHAPE, accumulate: true };
      const first = tuner();
      refine(first, SHAPE, other);
      const before = stub.read('launches');
      refine(first, SHAPE, other);
      const recorded = 6;
      expect(stub.read('launches')).toBe(before + recorded);

      const fresh = new Matmul(stub.lt, choices().read());
      expect(launched(other, fresh)).toBe(2);
      expect(runToEnd(slices(tuner(fresh), [SHAPE, other], fresh))).toBe(false);
      expect(stub.read('launches')).toBe(before + recorded + 1 + recorded);
    });

    it('tunes anew what the library no longer takes', () => {
      refine(tuner(), SHAPE);
      stub.offer([{ costNs: 31 * US }, { costNs: 32 * US }, { costNs: 15 * US }]);
      const fresh = new Matmul(stub.lt, choices().read());
      expect(launched(SHAPE, fresh)).toBe(1);
      runToEnd(slices(tuner(fresh), [SHAPE], fresh));
      expect(launched(SHAPE, fresh)).toBe(3);
      expect([...choices().read().values()][0]![0]).toBe(3);
    });

    it('lets other launches come between two slices, as they were before', () => {
      const work = slices(tuner(), [SHAPE]);
      let count = 0;
      for (let next = work.next(); next.done !== true; next = work.next()) {
        expect(launched()).toBe(1);
        count += 1;
      }
      expect(launched()).toBe(2);
      // Three candidates recorded, then timed in three heats; the first heat has three rounds.
      expect(count).toBeGreaterThan(3 + 3 * 3);
    });

    it('leaves nothing behind when it is ended early', () => {
      launched();
      const before = stub.read('alive');
      const work = slices(tuner(), [SHAPE]);
      for (let slice = 0; slice < 8; slice++) work.next();
      expect(stub.read('alive')).toBeGreaterThan(before);
      work.return(false);
      expect(stub.read('alive')).toBe(before);
      expect(choices().read()).toEqual(new Map());
    });
  });
});
