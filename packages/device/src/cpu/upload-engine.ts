import { invariant } from '@bridgekeeper/bridge';
import type { UploaderStart } from '../device.ts';
import { openHostHandle } from '../host-handle.ts';
import type { Upload, UploadEngine } from '../uploader.ts';
import { SharedControl } from './shared-control.ts';

/** Copies between shared memories: each is made as soon as it is begun. */
export class CpuUploadEngine implements UploadEngine {
  readonly #control: SharedControl;

  constructor(start: UploaderStart & { readonly kind: 'shared' }) {
    this.#control = new SharedControl(start.control);
  }

  begin({ host, hostOffsetBytes, device, deviceOffsetBytes, bytes }: Upload): void {
    invariant(device.kind === 'shared', 'device memory of a cpu device is shared');
    const from = openHostHandle(host).subarray(hostOffsetBytes, hostOffsetBytes + bytes);
    const to = new Uint8Array(device.memory, device.offsetBytes, device.bytes);
    to.set(from, deviceOffsetBytes);
    this.#control.countCopy('h2d', bytes);
  }

  await(): void {}

  close(): void {}
}
