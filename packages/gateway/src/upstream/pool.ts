import { type UpstreamAddress, UpstreamConnection } from './connection.ts';

/** Connections to one replica: used again, last one first. */
export class UpstreamPool {
  readonly #address: UpstreamAddress;
  readonly #idleMax: number;
  readonly #idle: { readonly connection: UpstreamConnection; readonly sinceNs: number }[] = [];
  readonly #all = new Set<UpstreamConnection>();
  readonly #nowNs: () => number;
  #isClosed = false;

  constructor(address: UpstreamAddress, idleMax: number, nowNs: () => number) {
    this.#address = address;
    this.#idleMax = idleMax;
    this.#nowNs = nowNs;
  }

  /** Connections, idle and in use. */
  get size(): number {
    return this.#all.size;
  }

  /** One that is free, or with `isNew` one that was never used; it may still be connecting. */
  take(isNew = false): UpstreamConnection {
    const free = isNew ? undefined : this.#idle.pop();
    if (free !== undefined) return free.connection;
    const connection = new UpstreamConnection(
      this.#address,
      (done) => this.#put(done),
      (closed) => this.#forget(closed),
    );
    this.#all.add(connection);
    return connection;
  }

  /** Ends those that were idle for longer. */
  expire(idleNs: number): void {
    const beforeNs = this.#nowNs() - idleNs;
    while (this.#idle.length > 0 && this.#idle[0]!.sinceNs < beforeNs) {
      this.#idle.shift()!.connection.destroy();
    }
  }

  /** Ends idle connections now, and the others when they are done. */
  close(): void {
    this.#isClosed = true;
    for (const { connection } of this.#idle.splice(0)) connection.destroy();
  }

  #put(connection: UpstreamConnection): void {
    if (this.#isClosed || this.#idle.length >= this.#idleMax) connection.destroy();
    else this.#idle.push({ connection, sinceNs: this.#nowNs() });
  }

  #forget(connection: UpstreamConnection): void {
    this.#all.delete(connection);
    const at = this.#idle.findIndex((each) => each.connection === connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }
}
