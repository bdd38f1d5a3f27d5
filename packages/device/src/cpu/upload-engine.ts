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

  begin({ host, hostOffsetBytes, target, targetOffsetBytes, bytes }: Upload): void {
    invariant(target.kind === 'shared', 'memory of a cpu device is shared');
    const from = openHostHandle(host).subarray(hostOffsetBytes, hostOffsetBytes + bytes);
    const to = new Uint8Array(target.memory, target.offsetBytes, target.bytes);
    to.set(from, targetOffsetBytes);
    this.#control.countCopy('h2d', bytes);
  }

  await(): void {}

  close(): void {}
}
