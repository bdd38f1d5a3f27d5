import { pretendedFacts, type Vmm } from '@bridgekeeper/control';
import { startTestServer, type TestServer } from '@bridgekeeper/server/testing';

/** Guests that are real servers of this process, over an engine that is stepped by hand. */
export class ServerVmm implements Vmm {
  /** What the host's board has that nothing is placed on. */
  quarantined: { readonly module: number; readonly reason: string }[] = [];
  readonly servers = new Map<string, TestServer>();
  readonly #host: string;
  readonly #starting = new Set<string>();

  constructor(host: string) {
    this.#host = host;
  }

  async facts() {
    return { ...pretendedFacts(this.#host), quarantined: this.quarantined };
  }

  async list() {
    const running = [...this.servers].map(([replica, { url }]) => ({
      replica,
      state: 'running' as const,
      progress: 'running',
      address: url,
    }));
    const booting = [...this.#starting].map((replica) => ({
      replica,
      state: 'booting' as const,
      progress: 'booting',
      address: null,
    }));
    return [...running, ...booting];
  }

  async create({ replica, epoch, credential, models }: Parameters<Vmm['create']>[0]) {
    if (this.servers.has(replica) || this.#starting.has(replica)) return;
    this.#starting.add(replica);
    const server = await startTestServer(
      { pace: 'by-hand' },
      {
        gatewayKey: [credential],
        replicaId: replica,
        tenancyEpoch: epoch,
        servedModelName: [...models],
      },
    );
    this.#starting.delete(replica);
    this.servers.set(replica, server);
  }

  async remove(replica: string) {
    const server = this.servers.get(replica);
    this.servers.delete(replica);
    await server?.stop(0);
  }

  async giveKey() {}

  async close() {
    for (const replica of [...this.servers.keys()]) await this.remove(replica);
  }
}
