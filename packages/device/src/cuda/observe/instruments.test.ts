import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compileLibrary, DRIVER_SIGNATURES, hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, describe, expect, it } from 'vitest';
import { SystemClock } from '../../clock/system-clock.ts';
import type { FeatureVerdict } from '../../instruments.ts';
import type { Core } from '../core.ts';
import { Memory } from '../memory.ts';
import { openDriver } from '../native.ts';
import { openCudaDevice } from '../open.ts';
import { cudaAvailability } from './availability.ts';
import { CudaInstruments } from './instruments.ts';

const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-instruments-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A driver that succeeds at everything but the functions that `bodies` gives a body. */
function driverLibrary(name: string, bodies: Readonly<Record<string, string>>): string {
  const functions = [...Object.keys(DRIVER_SIGNATURES), 'cuMemHostUnregister', 'cuCtxGetDevice'];
  const source = functions.map((each) => `int ${each}() { ${bodies[each] ?? 'return 0;'} }`);
  return compileLibrary(folder, name, `static int pending = 0;\n${source.join('\n')}`);
}

/** As far as the trials need one. */
function coreOn(path: string): Core {
  const driver = openDriver(path);
  const core = { driver, memory: new Memory(driver), clock: new SystemClock(), imposed: null };
  return core as unknown as Core;
}

const verdictOn = (verdicts: readonly FeatureVerdict[], feature: FeatureVerdict['feature']) =>
  verdicts.find((verdict) => verdict.feature === feature)!;

describe.each(hasCompiler ? ['refuses'] : [])('features under a driver that %s', () => {
  // As under confidential computing: 801, and a pending error for whoever calls next; no mapped
  // memory; events that go backwards.
  const refusing = {
    cuMemHostRegister_v2: 'pending = 801; return 801;',
    cuCtxSynchronize: 'int was = pending; pending = 0; return was;',
    cuMemHostAlloc: 'return 801;',
    cuEventElapsedTime: 'return 0;',
  };

  it('finds each refusal, clears what it left pending, and goes on', () => {
    const verdicts = new CudaInstruments(coreOn(driverLibrary('refusing', refusing))).tryFeatures();
    expect(verdicts.map(({ works }) => works)).toEqual([false, false, false, false]);
    const registration = verdictOn(verdicts, 'host-registration');
    expect(registration.detail).toMatch(/^cuMemHostRegister_v2 returned 801 .*; then cuCtxSync/);
    expect(verdictOn(verdicts, 'mapped-host-reads').detail).toContain(
      'cuMemHostAlloc returned 801',
    );
    expect(verdictOn(verdicts, 'mapped-host-reads').detail).not.toContain('then');
    expect(verdictOn(verdicts, 'event-timing').detail).toMatch(/^events say 0\.000 ms, the host/);
    expect(verdictOn(verdicts, 'multicast').detail).toContain('not supported');
  });

  it('a driver without batched copies is told apart from one that fails', () => {
    const instruments = new CudaInstruments(coreOn(driverLibrary('old', {})));
    expect(() => instruments.timeBatch(2, 16)).toThrow(/no cuMemcpyBatchAsync/);
  });
});

/** Nothing stands in for a GPU: without one, this has nothing to run on. */
describe.each(cudaAvailability().available ? ['GPU'] : [])('on a real %s', () => {
  it('measures, tries, and leaves nothing behind', async () => {
    const device = await openCudaDevice();
    const { instruments } = device;
    const { createNs, destroyNs } = instruments.timeContext();
    expect(createNs).toBeGreaterThan(0);
    expect(destroyNs).toBeGreaterThan(0);
    for (const { detail } of instruments.tryFeatures()) expect(detail).not.toBe('');
    expect(instruments.timePeers(1_048_576)).toBeInstanceOf(Array);
    expect(device.counters().allocatedBytes).toBe(0);
    await device.close();
  });
});
