import type { UploaderStart } from '@bridgekeeper/device';
import { openUploader, type Uploader } from '@bridgekeeper/device/threads';

/**
 * Opens the uploader of a thread that copies up what it reads (`ThreadUploads`), on that thread.
 * Its copies are reported to the launching thread, which writes them in the ledger. Throws
 * DeviceError.
 */
export function openThreadUploader(start: UploaderStart): Promise<Uploader> {
  return openUploader(start);
}
