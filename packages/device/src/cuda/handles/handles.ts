import { CUDA, type Driver, OutCell } from '@bridgekeeper/native/threads';
import type { DeviceEvent, Graph } from '../../device.ts';

/**
 * A stream that does not wait for the default stream. Streams of different priority use different
 * queues.
 */
export function createStream(driver: Driver, priority: 'normal' | 'highest'): bigint {
  const greatest = new OutCell();
  driver.call('cuCtxGetStreamPriorityRange', null, greatest.bytes);
  const level = priority === 'highest' ? greatest.i32 : 0;
  return driver.read('cuStreamCreateWithPriority', CUDA.STREAM_NON_BLOCKING, level).pointer;
}

export class CudaEvent implements DeviceEvent {
  readonly id: number;
  readonly handle: bigint;

  constructor(id: number, handle: bigint) {
    this.id = id;
    this.handle = handle;
  }
}

export class CudaGraph implements Graph {
  readonly id: number;
  readonly label: string;
  readonly length: number;
  /** CUgraphExec */
  readonly handle: bigint;

  constructor(id: number, label: string, length: number, handle: bigint) {
    this.id = id;
    this.label = label;
    this.length = length;
    this.handle = handle;
  }
}
