import { SystemClock } from './clock/system-clock.ts';
import type { UploaderStart } from './device.ts';
import { Uploader } from './uploader.ts';

/** Opens an uploader on this thread. Throws DeviceError. */
export async function openUploader(start: UploaderStart): Promise<Uploader> {
  const clock = new SystemClock(start.clockOrigin);
  const engine =
    start.kind === 'native'
      ? new (await import('./cuda/lanes/upload-engine.ts')).CudaUploadEngine(start)
      : new (await import('./cpu/upload-engine.ts')).CpuUploadEngine(start);
  return new Uploader(engine, () => clock.nowNs());
}
