import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Program } from '@bridgekeeper/native';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { defaultKernelCacheFolder, KernelCache, kernelKey } from './kernel-cache.ts';

const PROGRAM: Program = {
  name: 'a.cu',
  source: 'int a;',
  headers: { 'b.cuh': 'int b;' },
  options: ['-x', '-y'],
};

describe('kernelKey', () => {
  it('changes with everything that decides the machine code', () => {
    const keys = [
      kernelKey(PROGRAM, '13.0'),
      kernelKey(PROGRAM, '13.1'),
      kernelKey({ ...PROGRAM, name: 'b.cu' }, '13.0'),
      kernelKey({ ...PROGRAM, source: 'int b;' }, '13.0'),
      kernelKey({ ...PROGRAM, headers: { 'b.cuh': 'int c;' } }, '13.0'),
      kernelKey({ ...PROGRAM, options: ['-x', '-z'] }, '13.0'),
      kernelKey({ ...PROGRAM, options: ['-x-y'] }, '13.0'),
    ];
    expect(new Set(keys).size).toBe(keys.length);
    expect(kernelKey({ ...PROGRAM }, '13.0')).toBe(keys[0]);
  });
});

describe('KernelCache', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kernels-'));
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  it('gives back what was written, and leaves nothing else behind', () => {
    const cache = new KernelCache(join(folder, 'deep', 'down'));
    expect(cache.read('k')).toBeNull();
    cache.write('k', Uint8Array.of(1, 2, 3));
    expect(cache.read('k')).toEqual(Buffer.of(1, 2, 3));
    expect(readdirSync(join(folder, 'deep', 'down'))).toEqual(['k.cubin']);
  });

  it('never gives back a file that was changed or cut', () => {
    const cache = new KernelCache(folder);
    cache.write(
      'k',
      Uint8Array.from({ length: 40 }, (_, i) => i),
    );
    const path = join(folder, 'k.cubin');
    const whole = readFileSync(path);
    const damage = fc.oneof(
      fc.nat(whole.length - 1).map((length) => whole.subarray(0, length)),
      fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 })).map(([at, change]) => {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= change;
        return bytes;
      }),
    );
    fc.assert(
      fc.property(damage, (bytes) => {
        writeFileSync(path, bytes);
        expect(cache.read('k')).toBeNull();
      }),
    );
  });

  it('does without a folder that cannot be made', () => {
    writeFileSync(join(folder, 'file'), '');
    const cache = new KernelCache(join(folder, 'file', 'below'));
    cache.write('k', Uint8Array.of(1));
    expect(cache.read('k')).toBeNull();
  });

  it('does without a folder', () => {
    const cache = new KernelCache(null);
    cache.write('k', Uint8Array.of(1));
    expect(cache.read('k')).toBeNull();
  });

  it('lies where XDG says', () => {
    expect(defaultKernelCacheFolder({ XDG_CACHE_HOME: '/c' })).toBe('/c/bridgekeeper/kernels');
    expect(defaultKernelCacheFolder({})).toMatch(/\.cache\/bridgekeeper\/kernels$/);
  });
});
