import { z } from 'zod';
import type { HostFacts } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import type { Guest, GuestSpec, Vmm } from './vmm.ts';

/** What an image's name means on a host of dstack. */
export interface DstackImage {
  /** One of the VMM's images. */
  readonly image: string;
  /** The application's compose document, as text: measured, so the same for all replicas. */
  readonly composeFile: string;
  readonly vcpus: number;
  readonly memoryMib: number;
  readonly diskGib: number;
  /** Where the replica's API is in the guest. */
  readonly port: number;
}

export interface DstackOptions {
  /** Of the VMM, such as `http://127.0.0.1:9080`. */
  readonly url: string;
  /** Bearer token; null: it asks for none. */
  readonly token: string | null;
  readonly images: Readonly<Record<string, DstackImage>>;
  /** PCI slots by module: what the VMM calls the GPUs. */
  readonly slots: Readonly<Record<number, string>>;
  /** What the VMM does not know: driver, partitions, identities. */
  readonly facts: () => Promise<HostFacts>;
  /** Host ports for replicas: from the first one on, as many as there are. */
  readonly ports: { readonly host: string; readonly first: number; readonly count: number };
  /** The VMM's answers are waited for until this aborts. */
  readonly deadline: () => AbortSignal;
}

const NAME = /^bk-(rep_[0-9a-z]{26})$/;
const ANSWER_CHARACTERS_MAX = 8_000_000;

const portMapping = z.object({
  host_port: z.int().default(0),
  host_address: z.string().default(''),
});
const vm = z.object({
  id: z.string().min(1).max(128),
  name: z.string().max(256).default(''),
  status: z.string().max(64).default(''),
  boot_progress: z.string().default(''),
  boot_error: z.string().default(''),
  shutdown_progress: z.string().default(''),
  configuration: z.object({ ports: z.array(portMapping).default([]) }).nullish(),
});
const status = z.object({ vms: z.array(vm).max(10_000).default([]) });
type Vm = z.output<typeof vm>;

/**
 * Guests that are confidential VMs of dstack-vmm, by its pRPC in JSON. A VM carries its replica in
 * its name, so that one whose creation was not answered is found again.
 */
export class DstackVmm implements Vmm {
  readonly #options: DstackOptions;

  constructor(options: DstackOptions) {
    this.#options = options;
  }

  async facts(): Promise<HostFacts> {
    return this.#options.facts();
  }

  async list(): Promise<readonly Guest[]> {
    return (await this.#vms()).map(({ replica, vm }) => this.#guestOf(replica, vm));
  }

  async create(spec: GuestSpec): Promise<void> {
    const { images, slots, ports } = this.#options;
    const image = Object.hasOwn(images, spec.image) ? images[spec.image]! : null;
    if (image === null) {
      const names = Object.keys(images).join(', ');
      throw new ControlError('vmm-refused', `no image is called ${spec.image}; there are ${names}`);
    }
    const gpus = spec.modules.map((module) => {
      const slot = slots[module];
      if (slot !== undefined) return { slot };
      throw new ControlError('vmm-refused', `the slot of module ${module} is not known`);
    });
    const vms = await this.#vms();
    if (vms.some(({ replica }) => replica === spec.replica)) return;
    const taken = new Set(vms.flatMap(({ vm }) => portsOf(vm)));
    const all = Array.from({ length: ports.count }, (_, index) => ports.first + index);
    const port = all.find((each) => !taken.has(each));
    if (port === undefined) {
      throw new ControlError('vmm-refused', `all ${ports.count} ports for replicas are in use`);
    }
    const { models, credential, inFlightMax, tenancy = null } = spec;
    await this.#call('CreateVm', {
      name: `bk-${spec.replica}`,
      image: image.image,
      compose_file: image.composeFile,
      vcpu: image.vcpus,
      memory: image.memoryMib,
      disk_size: image.diskGib,
      ports: [{ protocol: 'tcp', host_address: ports.host, host_port: port, vm_port: image.port }],
      gpus: { attach_mode: 'listed', gpus },
      // Not measured, and seen by the host: nothing that a guest may rely on.
      user_config: JSON.stringify({ models, credential, inFlightMax, tenancy }),
    });
  }

  async remove(replica: string): Promise<void> {
    for (const { vm } of (await this.#vms()).filter((each) => each.replica === replica)) {
      const { id } = vm;
      if (isRunning(vm)) {
        // First as a guest would end itself; who is asked again is ended.
        await this.#call(vm.shutdown_progress === '' ? 'ShutdownVm' : 'StopVm', { id });
      } else {
        await this.#call('RemoveVm', { id });
      }
    }
  }

  async giveKey(replica: string): Promise<void> {
    const message = `dstack hands keys to guests by its KMS: ${replica} takes its own`;
    throw new ControlError('vmm-refused', message);
  }

  async #vms(): Promise<{ readonly replica: string; readonly vm: Vm }[]> {
    const read = status.safeParse(await this.#call('Status', {}));
    if (!read.success) {
      throw new ControlError('vmm-refused', 'dstack-vmm answers Status with something else');
    }
    return read.data.vms.flatMap((each) => {
      const replica = NAME.exec(each.name)?.[1];
      return replica === undefined ? [] : [{ replica, vm: each }];
    });
  }

  #guestOf(replica: string, each: Vm): Guest {
    const { boot_error: error, boot_progress: progress } = each;
    if (error !== '') return { replica, state: 'failed', progress: error, address: null };
    if (isRunning(each) && each.shutdown_progress !== '') {
      return { replica, state: 'stopping', progress: each.shutdown_progress, address: null };
    }
    if (!isRunning(each)) {
      return {
        replica,
        state: 'failed',
        progress: `dstack-vmm says ${each.status}`,
        address: null,
      };
    }
    if (progress !== 'done') return { replica, state: 'booting', progress, address: null };
    const [port] = portsOf(each);
    const address = port === undefined ? null : `http://${this.#options.ports.host}:${port}`;
    return { replica, state: 'running', progress, address };
  }

  async #call(method: string, parameters: object): Promise<unknown> {
    const { url, token, deadline } = this.#options;
    let response: Response;
    let text: string;
    try {
      response = await fetch(new URL(`/prpc/${method}?json`, url), {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          ...(token === null ? {} : { authorization: `Bearer ${token}` }),
        },
        body: JSON.stringify(parameters),
        signal: deadline(),
      });
      text = await response.text();
    } catch (cause) {
      const message = `dstack-vmm did not answer ${method}: ${(cause as Error).message}`;
      throw new ControlError('vmm-unavailable', message, { cause });
    }
    if (!response.ok) {
      const message = `dstack-vmm refused ${method} with ${response.status}`;
      throw new ControlError('vmm-refused', `${message}: ${text.slice(0, 200)}`);
    }
    if (text.length > ANSWER_CHARACTERS_MAX) {
      throw new ControlError('vmm-refused', `dstack-vmm answers ${method} with too much`);
    }
    try {
      return text === '' ? {} : JSON.parse(text);
    } catch (cause) {
      const message = `dstack-vmm answered ${method} with no JSON`;
      throw new ControlError('vmm-refused', message, { cause });
    }
  }
}

function isRunning({ status: now }: Vm): boolean {
  return now === 'running';
}

function portsOf({ configuration }: Vm): number[] {
  return (configuration?.ports ?? []).map(({ host_port: port }) => port);
}
