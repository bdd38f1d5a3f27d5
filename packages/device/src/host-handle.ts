import { viewNative } from '@bridgekeeper/native/threads';
import type { HostHandle } from './device.ts';

/**
 * The bytes of host memory that another thread of this process allocated. They must not be touched
 * after that thread has freed it: native memory is gone then.
 */
export function openHostHandle(handle: HostHandle): Uint8Array {
  if (handle.kind === 'native') return viewNative(handle.address, handle.bytes);
  return new Uint8Array(handle.memory, 0, handle.bytes);
}
