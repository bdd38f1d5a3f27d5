import { parentPort, workerData } from 'node:worker_threads';
import { invariant } from '@bridgekeeper/bridge/threads';
import {
  CUBLASLT_LIBRARY,
  CublasLt,
  type Driver,
  findLibrary,
  hostEnvironment,
} from '@bridgekeeper/native';
import { Matmul, type MatmulShape } from '../matmul/matmul.ts';
import { openDriver } from '../native.ts';
import type { WarmUpStart } from './warm-up-protocol.ts';

// The thread of a `CudaWarmUp`. Without a driver, or a GPU, it fails, which ends it.

const port = parentPort;
invariant(port !== null, 'warm-up-worker runs as a worker thread');
const { ordinal = 0, driverPath } = workerData as WarmUpStart;

/** Any product will do: with the first that it is asked about the library gets ready. */
const ANY: MatmulShape = {
  count: 16,
  inputs: 4096,
  outputs: 4096,
  outType: 'bf16',
  hasBias: false,
  accumulate: false,
};

function askLibrary(driver: Driver): void {
  const majorVersion = Math.floor(driver.read('cuDriverGetVersion').i32 / 1000);
  const path = findLibrary(CUBLASLT_LIBRARY, majorVersion, hostEnvironment());
  const matmul = new Matmul(new CublasLt(path));
  matmul.candidates(ANY, 1);
  matmul.close();
}

const driver = openDriver(driverPath);
const device = driver.read('cuDeviceGet', ordinal).i32;
const context = driver.read('cuDevicePrimaryCtxRetain', device).pointer;
// From before the library is asked on: what asks may be told to end meanwhile.
port.once('message', () => {
  driver.release('cuDevicePrimaryCtxRelease_v2', device);
  port.close();
});
driver.enter(context);
try {
  askLibrary(driver);
} catch {
  // The context is of use by itself, and is given back when it is asked for.
}
