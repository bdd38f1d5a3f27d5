import { type CrossingRecord, SHARED_TENANT } from '@bridgekeeper/bridge';
import { type Device, type Lane, type Slice, slice } from '@bridgekeeper/device';

const STAGING_BYTES = 16 * 1024 * 1024;

export interface UploadOptions {
  readonly device: Device;
  readonly lane: Lane;
  readonly bytes: Uint8Array;
  /** At least as long as `bytes`. */
  readonly to: Slice;
  readonly onCrossing: (record: CrossingRecord) => void;
  readonly stagingBytes?: number | undefined;
}

/**
 * Copies constants that belong to the weights (such as the rope table) to the device, through one
 * staging buffer.
 */
export async function uploadBytes(options: UploadOptions): Promise<void> {
  const { device, lane, bytes, to } = options;
  const stream = device.createStream('upload');
  const stagingBytes = Math.min(options.stagingBytes ?? STAGING_BYTES, bytes.length);
  const host = device.allocateHost(stagingBytes, 'pinned', 'upload staging');
  try {
    for (let start = 0; start < bytes.length; start += stagingBytes) {
      const part = bytes.subarray(start, start + stagingBytes);
      host.bytes.set(part);
      const record = await lane.copy({
        direction: 'h2d',
        device: slice(to.buffer, to.offsetBytes + start, part.length),
        host,
        hostOffsetBytes: 0,
        stream,
        purpose: 'weights',
        tenant: SHARED_TENANT,
      });
      options.onCrossing(record);
    }
  } finally {
    device.freeHost(host);
  }
}
