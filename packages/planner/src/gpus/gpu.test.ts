import { referenceProfile } from '@bridgekeeper/bridge';
import { expect, test } from 'vitest';
import { PlanError } from '../errors.ts';
import { type Figure, knownGpu, knownGpus, rooflineOf } from './gpu.ts';

test('every number of every GPU says who gives it', () => {
  for (const gpu of knownGpus()) {
    const figures = Object.values(gpu).filter(
      (value): value is Figure => typeof value === 'object' && value !== null && 'basis' in value,
    );
    expect(figures.length).toBeGreaterThanOrEqual(10);
    for (const { value, basis, source } of figures) {
      expect(value).toBeGreaterThan(0);
      expect(['measured', 'documented', 'inferred']).toContain(basis);
      expect(source.length).toBeGreaterThan(5);
    }
    expect(gpu.reachedBytesPerSecond.value).toBeLessThan(gpu.memoryBytesPerSecond.value);
    expect(gpu.reachedBf16FlopsPerSecond.value).toBeLessThan(gpu.bf16FlopsPerSecond.value);
  }
});

test('GPUs are as fast as the reference profiles of the same machines', () => {
  for (const [gpu, profile] of [
    ['h100', 'h100-native'],
    ['b300', 'b300-native'],
    ['b200', 'b200-cc'],
  ] as const) {
    const { copyBytesPerSecond, bf16FlopsPerSecond } = referenceProfile(profile).roofline;
    const roofline = rooflineOf(knownGpu(gpu));
    expect(roofline.copyBytesPerSecond / copyBytesPerSecond).toBeCloseTo(1, 1);
    expect(roofline.bf16FlopsPerSecond / bf16FlopsPerSecond).toBeCloseTo(1, 1);
  }
});

test('a GPU is found in any spelling, and the nearest is named for one that is not known', () => {
  for (const name of ['H200', 'NVIDIA H200', 'h200-sxm']) expect(knownGpu(name).name).toBe('h200');
  expect(knownGpu('RTX PRO 6000').name).toBe('rtx-pro-6000');
  expect(() => knownGpu('b30')).toThrow(PlanError);
  expect(() => knownGpu('b30')).toThrow(/nearest: b300/);
});
