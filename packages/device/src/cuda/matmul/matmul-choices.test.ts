import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MatmulChoices, type MatmulMachine } from './matmul-choices.ts';

const MACHINE: MatmulMachine = {
  gpu: 'NVIDIA H100 80GB HBM3',
  architecture: 'sm_90a',
  multiprocessors: 132,
  cublasLt: 130100,
  workspaceBytes: 32,
};
const algorithm = (seed: number) => Buffer.alloc(64, seed);

describe('MatmulChoices', () => {
  let folder: string;
  let choices: MatmulChoices;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'choices-'));
    choices = new MatmulChoices(join(folder, 'deep'), MACHINE);
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('gives back what any process added, the latest of each', () => {
    expect(choices.read()).toEqual(new Map());
    choices.add(new Map([['a', algorithm(1)]]));
    const other = new MatmulChoices(join(folder, 'deep'), { ...MACHINE });
    other.add(
      new Map([
        ['a', algorithm(2)],
        ['b', algorithm(3)],
      ]),
    );
    expect(choices.read()).toEqual(
      new Map([
        ['a', algorithm(2)],
        ['b', algorithm(3)],
      ]),
    );
    expect(readdirSync(join(folder, 'deep'))).toHaveLength(1);
  });

  it('keeps the machines apart by everything that tells them apart', () => {
    const paths = [
      MACHINE,
      { ...MACHINE, gpu: 'NVIDIA H100 80GB/HBM3' },
      { ...MACHINE, architecture: 'sm_80' },
      { ...MACHINE, multiprocessors: 114 },
      { ...MACHINE, cublasLt: 130101 },
      { ...MACHINE, workspaceBytes: 64 },
    ].map((machine) => new MatmulChoices(folder, machine).path);
    expect(new Set(paths).size).toBe(paths.length);
    for (const path of paths) expect(dirname(path)).toBe(folder);
  });

  it('takes no file of another machine, nor anything else of the right name', () => {
    const other = new MatmulChoices(folder, { ...MACHINE, multiprocessors: 114 });
    other.add(new Map([['a', algorithm(1)]]));
    const foreign = readFileSync(other.path, 'utf8');
    mkdirSync(dirname(choices.path));
    const texts = ['', '{', 'null', '5', '[]', '{}', '{"choices":{"a":5}}', foreign];
    for (const text of texts) {
      writeFileSync(choices.path, text);
      expect(choices.read()).toEqual(new Map());
    }
    choices.add(new Map([['a', algorithm(2)]]));
    expect(choices.read()).toEqual(new Map([['a', algorithm(2)]]));
  });

  it('never gives back a file that was changed or cut', () => {
    choices.add(new Map([['a', algorithm(1)]]));
    const whole = readFileSync(choices.path);
    const known = JSON.stringify(JSON.parse(whole.toString()));
    const damage = fc.oneof(
      fc.nat(whole.length - 3).map((length) => whole.subarray(0, length)),
      fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, change]) => {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= change;
        return bytes;
      }),
    );
    const isSameText = (bytes: Buffer) => {
      try {
        return JSON.stringify(JSON.parse(bytes.toString())) === known;
      } catch {
        return false;
      }
    };
    fc.assert(
      fc.property(
        damage.filter((bytes) => !isSameText(bytes)),
        (bytes) => {
          writeFileSync(choices.path, bytes);
          expect(choices.read()).toEqual(new Map());
        },
      ),
    );
  });

  it('starts from what ships for such a machine, and prefers what was found on this one', () => {
    const shipped = join(folder, 'shipped');
    new MatmulChoices(shipped, MACHINE).add(
      new Map([
        ['a', algorithm(1)],
        ['b', algorithm(1)],
      ]),
    );
    new MatmulChoices(shipped, { ...MACHINE, cublasLt: 130101 }).add(
      new Map([['c', algorithm(1)]]),
    );
    choices.add(new Map([['b', algorithm(2)]]));
    expect(choices.read(shipped)).toEqual(
      new Map([
        ['a', algorithm(1)],
        ['b', algorithm(2)],
      ]),
    );
    expect(readFileSync(choices.path, 'utf8')).not.toContain('"a"');
  });

  it('does without a folder that cannot be made', () => {
    writeFileSync(join(folder, 'file'), '');
    const nowhere = new MatmulChoices(join(folder, 'file', 'below'), MACHINE);
    nowhere.add(new Map([['a', algorithm(1)]]));
    expect(nowhere.read()).toEqual(new Map());
  });
});

describe('what ships', () => {
  const shipped = new URL('../../../algorithms/', import.meta.url);
  const names = readdirSync(shipped);

  it('is there, and each file is taken on the machine that it names', () => {
    expect(names.length).toBeGreaterThan(0);
    for (const name of names) {
      const { machine, choices } = JSON.parse(readFileSync(new URL(name, shipped), 'utf8'));
      const known = new MatmulChoices(null, machine);
      expect(known.path).toBe(name);
      expect(known.read().size).toBe(Object.keys(choices).length);
    }
  });
});
