import {
  askReplica,
  type ControlError,
  controlLink,
  HostAgent,
  joinControl,
  memoryFile,
  readIdentity,
  SYSTEM_TIME,
} from '@bridgekeeper/control';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import { AGENTS_PORT, CONTROL_NAME } from './control-process.ts';
import type { FabricProcess } from './fabric-process.ts';
import type { SimulatedVmm } from './guests.ts';
import { FleetProcess } from './process.ts';

/** Told which guest has answered which challenge, and what agents obey. */
export interface AgentWatch {
  answered(address: string, nonce: string): void;
  /** An agent keeps what it is told, and does it. */
  obeys(host: string, epoch: number, sequence: number): void;
}

/** The product's agent of a host, as `bridgekeeper agent` runs it. */
export class AgentProcess extends FleetProcess {
  readonly kind = 'agent';
  readonly vmm: SimulatedVmm;
  /** Of the same host; null: its GPUs are in no fabric. */
  readonly fabric: FabricProcess | null;
  readonly #token: string;
  readonly #watch: AgentWatch;
  #boots = 1;

  constructor(
    world: World,
    vmm: SimulatedVmm,
    fabric: FabricProcess | null,
    token: string,
    watch: AgentWatch,
  ) {
    super(world, vmm.host);
    this.fabric = fabric;
    this.#watch = watch;
    this.vmm = vmm;
    this.#token = token;
  }

  get folder(): string {
    return `/sim/${this.host}/agent`;
  }

  override losePower(): void {
    this.#boots += 1;
    this.vmm.losePower();
    this.fabric?.losePower();
    super.losePower();
  }

  protected async main(life: Life): Promise<void> {
    const { judge } = this.world;
    const { host, folder } = this;
    const urls = [`https://${CONTROL_NAME}:${AGENTS_PORT}`];
    const identity = readIdentity(folder) ?? (await joinControl(urls, this.#token, host, folder));
    judge.note(`${life.name} has joined`);
    const memory = memoryFile(folder);
    const agent = new HostAgent({
      host,
      bootId: `boot-${this.#boots}`,
      vmm: this.vmm.of(life),
      memory: {
        read: memory.read,
        write: (kept) => {
          memory.write(kept);
          const { epoch, sequence } = kept.desired ?? { epoch: 0, sequence: 0 };
          this.#watch.obeys(host, epoch, sequence);
        },
      },
      link: controlLink(urls, identity),
      askEvidence: async (address, credential, nonce) => {
        const report = await askReplica(address, credential, nonce);
        if (report !== null) this.#watch.answered(address, nonce);
        return report;
      },
      time: SYSTEM_TIME,
      onTrouble: ({ code, message }: ControlError) => {
        judge.note(`${life.name}: ${message}`);
        judge.reached(`agent trouble: ${code}`);
      },
    });
    await agent.run(new AbortController().signal);
  }
}
