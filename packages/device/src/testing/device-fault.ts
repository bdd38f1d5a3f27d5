import { renameSync } from 'node:fs';
import { Driver } from '@bridgekeeper/native';
import { CpuStream } from '../cpu/cpu-stream.ts';
import { LaunchConfiguration } from '../cuda/launch/launch-configuration.ts';
import { DeviceError } from '../errors.ts';
import { ModelStream } from '../model/model-stream.ts';

/**
 * Makes a device fail in a program that knows nothing of it: `node --import` loads this into each
 * of its threads, and into processes that it starts. Whoever makes the file that the variable names
 * has the next launch of a graph fail, once: the file is taken away by it.
 */
export const DEVICE_FAULT = { variable: 'TEST_DEVICE_FAULT', module: import.meta.url } as const;

const trigger = process.env[DEVICE_FAULT.variable];

/** Whether this launch is the one. */
function isTaken(path: string): boolean {
  try {
    renameSync(path, `${path}.taken`);
    return true;
  } catch {
    return false;
  }
}

/** Writes where no memory is: CUDA answers every later call of the process with that error. */
const BAD_KERNEL = `.version 7.0
.target sm_80
.address_size 64
.visible .entry fault() {
  .reg .b64 %rd<2>;
  .reg .b32 %r<2>;
  mov.u64 %rd1, 64;
  mov.u32 %r1, 1;
  st.global.u32 [%rd1], %r1;
  ret;
}
\0`;

function failOnGpu(driver: Driver, stream: bigint): void {
  const module = driver.read('cuModuleLoadData', Buffer.from(BAD_KERNEL)).pointer;
  const kernel = driver.read('cuModuleGetFunction', module, 'fault').pointer;
  const configuration = new LaunchConfiguration(stream, false);
  const shape = configuration.fill({ grid: [1], threads: 1 });
  driver.call('cuLaunchKernelEx', shape, kernel, null, null);
}

if (trigger !== undefined) {
  for (const { prototype } of [CpuStream, ModelStream]) {
    const { launchGraph } = prototype;
    prototype.launchGraph = function (this: never, graph) {
      if (isTaken(trigger)) throw new DeviceError('launch-failed', 'a fault that a test asked for');
      launchGraph.call(this, graph);
    };
  }
  const { call } = Driver.prototype;
  Driver.prototype.call = function (this: Driver, name, ...args) {
    if (name === 'cuGraphLaunch' && isTaken(trigger)) failOnGpu(this, args[1] as bigint);
    call.call(this, name, ...args);
  };
}
