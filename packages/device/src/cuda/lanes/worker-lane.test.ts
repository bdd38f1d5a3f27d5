import { EventEmitter } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { type Law, type Profile, profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { hasCompiler } from '@bridgekeeper/native/testing';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { SystemClock } from '../../clock/system-clock.ts';
import { slice } from '../../device.ts';
import type { CudaDevice } from '../cuda-device.ts';
import { openCudaDevice } from '../open.ts';
import { compileStubGpu, type StubGpu } from '../testing/stub-gpu.ts';

/** A law under which a copy takes an hour: its thread is blocked when it dies. */
function slowLaw(): Law {
  const base = referenceProfile('b300-cc');
  const { h2d, d2h } = base.crossings;
  const slow = { ...h2d, pinned: { ...h2d.pinned, idleTollNs: 3600e9 } };
  const profile: Profile = {
    ...base,
    crossings: { h2d: slow, d2h },
    // The launching thread's context, and one more.
    contexts: { ...base.contexts, max: 2 },
  };
  return profileLaw(profile);
}

/** Every sleep is over at once, and took as long as it should. */
class HurriedClock extends SystemClock {
  #aheadNs = 0;

  override nowNs(): number {
    return super.nowNs() + this.#aheadNs;
  }

  override async sleepUntilNs(wakeNs: number): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    this.#aheadNs += Math.max(0, wakeNs - this.nowNs());
  }
}

function copyOf(device: CudaDevice) {
  return {
    direction: 'h2d',
    device: slice(device.allocate(64, 'there')),
    host: device.allocateHost(64, 'pinned', 'here'),
    hostOffsetBytes: 0,
    stream: device.createStream('copies'),
    purpose: 'weights',
    tenant: 'test',
  } as const;
}

describe.each(hasCompiler ? ['stub GPU'] : [])('a lane on a %s', () => {
  let folder: string;
  let gpu: StubGpu;
  const path = process.env.LD_LIBRARY_PATH;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'lanes-'));
    gpu = compileStubGpu(folder, { isBusy: true });
    process.env.LD_LIBRARY_PATH = gpu.folder;
  });
  afterAll(() => {
    if (path === undefined) delete process.env.LD_LIBRARY_PATH;
    else process.env.LD_LIBRARY_PATH = path;
    rmSync(folder, { recursive: true });
  });

  test('whose thread dies fails its copies, lets streams go, gives back what it held', async () => {
    const kernelCacheFolder = join(folder, 'kernels');
    const law = slowLaw();
    const device = await openCudaDevice({ driverPath: gpu.driverPath, kernelCacheFolder, law });
    const threads = vi.spyOn(Worker.prototype, 'postMessage');
    const lane = await device.openLane({ label: 'dying', context: 'own' });
    const { copies } = device.counters();
    const made = [copyOf(device), copyOf(device)].map((wanted) => lane.copy(wanted));
    const failures = Promise.all(
      made.map((copy) => copy.then(undefined, (error: { code: string }) => error.code)),
    );
    // The first is being made: its thread is where it will be for the next hour.
    await vi.waitUntil(() => device.counters().copies === copies + 1);
    const { events, released } = { events: gpu.read('events'), released: gpu.read('released') };
    await (threads.mock.contexts[0] as Worker).terminate();
    expect(await failures).toEqual(['closed', 'closed']);
    // Both streams waited for the lane, the later one for its second copy.
    expect([released, gpu.read('released')]).toEqual([0, 2]);
    await expect(lane.copy(copyOf(device))).rejects.toMatchObject({ code: 'closed' });
    // Its context counts until it is closed, and not after.
    const another = () => device.openLane({ label: 'next', context: 'own' });
    await expect(another()).rejects.toMatchObject({ code: 'too-many-contexts' });
    await lane.close();
    await lane.close();
    const next = await another();
    // The events that marked what was queued before the copies serve again.
    const again = [copyOf(device), copyOf(device)].map((wanted) => next.copy(wanted));
    for (const copy of again) copy.then(undefined, () => undefined);
    expect(gpu.read('events')).toBe(events);
    await (threads.mock.contexts.at(-1) as Worker).terminate();
    await Promise.allSettled(again);
    await device.close();
  });

  test('that is being opened when its device closes leaves no thread', async () => {
    const kernelCacheFolder = join(folder, 'kernels');
    const device = await openCudaDevice({ driverPath: gpu.driverPath, kernelCacheFolder });
    let threads = 0;
    const emit = vi.spyOn(Worker.prototype, 'emit').mockImplementation(function (
      this: Worker,
      ...[event, ...rest]: unknown[]
    ) {
      if (event === 'online') threads += 1;
      if (event === 'exit') threads -= 1;
      return EventEmitter.prototype.emit.call(this, event as string, ...rest);
    });
    const opening = device.openLane({ label: 'late', context: 'own' });
    await vi.waitUntil(() => threads === 1);
    await device.close();
    expect(threads).toBe(0);
    await expect(opening).resolves.toMatchObject({ kind: 'worker' });
    emit.mockRestore();
  });

  test('whose copy does not end says where it stands, and no close waits for it', async () => {
    const kernelCacheFolder = join(folder, 'kernels');
    const clock = new HurriedClock();
    const device = await openCudaDevice({ driverPath: gpu.driverPath, kernelCacheFolder, clock });
    const threads = vi.spyOn(Worker.prototype, 'postMessage');
    const lane = await device.openLane({ label: 'stalling', context: 'own' });
    gpu.stick(true);
    try {
      const alone = { ...copyOf(device), stream: null };
      const made = [lane.copy(alone), lane.copy(alone)];
      for (const copy of made) {
        await expect(copy).rejects.toMatchObject({
          code: 'stalled',
          message: expect.stringContaining('waits for the bytes to arrive for 30 s'),
        });
      }
      await expect(lane.copy(alone)).rejects.toMatchObject({ code: 'closed' });
      await lane.close();
    } finally {
      gpu.stick(false);
    }
    await (threads.mock.contexts.at(-1) as Worker).terminate();
    await device.close();
  });
});
