import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import { expect, it } from 'vitest';
import { slice } from '../device.ts';
import { openCpuDevice } from './cpu-device.ts';

it('a law keeps the launching thread busy for each launch, graphs as one', async () => {
  const base = referenceProfile('b300-cc');
  const submission = {
    ...base.submission,
    launchNs: 2e6,
    launchWithWaitNs: 2e6,
    graphLaunchNs: 3e6,
  };
  const device = await openCpuDevice({ law: profileLaw({ ...base, submission }), threads: 1 });
  try {
    const stream = device.createStream('s');
    const out = slice(device.allocate(256, 'out'));
    const fill = { out, elements: 4, type: 'f32', mean: 1, spread: 0, seed: 0 } as const;
    const busyNs = (action: () => void) => {
      const startedNs = device.clock.nowNs();
      action();
      return device.clock.nowNs() - startedNs;
    };
    // Lower bounds hold by what is imposed, however slow the machine is.
    expect(busyNs(() => stream.launch('fill-uniform', fill))).toBeGreaterThanOrEqual(2e6);
    const graph = device.capture(stream, 'three', () => {
      for (let i = 0; i < 3; i++) stream.launch('fill-uniform', fill);
    });
    expect(busyNs(() => stream.launchGraph(graph))).toBeGreaterThanOrEqual(3e6);
    await stream.synchronize();
  } finally {
    await device.close();
  }
});
