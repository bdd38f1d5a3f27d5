import type { HostHandle } from '@bridgekeeper/device';
import { openHostHandle } from '@bridgekeeper/device/threads';
import { DiskFile } from './disk-file.ts';
import { SealedSlots } from './sealed-slots.ts';
import type {
  NumberedOrder,
  StoreOpened,
  StoreOrder,
  StoreReply,
  StoreStart,
} from './store-protocol.ts';

export type { StoreStart } from './store-protocol.ts';

/** The end of a channel at which orders are taken. */
export interface StorePort {
  postMessage(message: StoreOpened | StoreReply): void;
  on(event: 'message', listener: (message: NumberedOrder) => void): unknown;
  close(): void;
}

/** Memory is accepted page by page. */
const PAGE_BYTES = 4096;

/**
 * What the storage thread does: touches host memory, encrypts and decrypts, reads and writes the
 * disk. It makes the key and keeps it.
 */
export function serveStore(port: StorePort, { disk }: StoreStart): void {
  let file: DiskFile | null = null;
  let slots: SealedSlots | null = null;
  /** Of native memory, by its address: it is viewed once and stays until the device closes. */
  const views = new Map<bigint, Uint8Array>();

  const openDisk = (): string | null => {
    if (disk === null) return null;
    try {
      file = new DiskFile(disk.folder);
      slots = new SealedSlots(file, disk.model);
      return null;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  };

  const bytesOf = (host: HostHandle): Uint8Array => {
    if (host.kind === 'shared') return openHostHandle(host);
    let view = views.get(host.address);
    if (view === undefined) {
      view = openHostHandle(host);
      views.set(host.address, view);
    }
    return view;
  };

  const touch = (host: HostHandle): void => {
    const bytes = bytesOf(host);
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) bytes[at] = 0;
  };

  const make = (order: StoreOrder): StoreReply['failure'] => {
    switch (order.kind) {
      case 'touch':
        touch(order.host);
        return null;
      case 'write':
      case 'read': {
        if (slots === null) return 'disk-failed';
        const { host, hostOffsetBytes, bytes, position, identity } = order;
        const part = bytesOf(host).subarray(hostOffsetBytes, hostOffsetBytes + bytes);
        return slots[order.kind](position, identity, part);
      }
      case 'drop':
        for (const position of order.positions) slots?.drop(position);
        return null;
      case 'drop-all':
        slots?.dropAll();
        return null;
      case 'close':
        slots?.dropAll();
        file?.close();
        port.close();
        return null;
    }
  };

  const opened: StoreOpened = { refusal: openDisk() };
  port.on('message', ({ number, order }) => {
    const reply: StoreReply = { number, failure: make(order) };
    port.postMessage(reply);
  });
  port.postMessage(opened);
}
