import { EventEmitter } from 'node:events';
import { MessageChannel } from 'node:worker_threads';
import { keepReceipts } from '../receipts/keeper.ts';
import type { ReceiptsThreadData, ToBook } from '../receipts/messages.ts';
import type { ReceiptsThread } from '../receipts/receipts.ts';

/** Keeps receipts as their thread does, but on this one: it starts at once. */
export function keepReceiptsHere(data: ReceiptsThreadData): ReceiptsThread {
  return new KeeperHere(data);
}

class KeeperHere extends EventEmitter implements ReceiptsThread {
  readonly #channel = new MessageChannel();

  constructor(data: ReceiptsThreadData) {
    super();
    const { port1, port2 } = this.#channel;
    port1.on('message', (message) => this.emit('message', message));
    void this.#keep(port2, structuredClone(data));
  }

  postMessage(message: ToBook): void {
    this.#channel.port1.postMessage(message);
  }

  /** As of a thread: what was sent before its end comes before it. */
  async #keep(port: MessageChannel['port2'], data: ReceiptsThreadData): Promise<void> {
    const closed = new Promise((resolve) => this.#channel.port1.once('close', resolve));
    try {
      await keepReceipts(port, data);
    } catch (error) {
      this.emit('error', error);
      port.close();
    }
    await closed;
    this.emit('exit');
  }
}
