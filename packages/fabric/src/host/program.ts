import { z } from 'zod';
import { FabricError } from '../errors.ts';
import type { Gateway, GuestEvidence, Guests, VirtualMachines } from './control.ts';
import type { ObservedVm } from './host.ts';

/**
 * Runs the operator's program with one verb, a JSON document on its standard input and one on its
 * standard output, bounded in time and bytes; rejects unless it ends with 0.
 */
export type RunProgram = (verb: string, input: unknown) => Promise<string>;

const id = z.string().max(200);
const vms = z
  .array(
    z.strictObject({
      id,
      state: z.enum(['starting', 'running', 'stopped']),
      bdfs: z.array(z.string().max(32)).max(64),
      pid: z.int().min(1).nullable(),
    }),
  )
  .max(256);
const admitted = z.array(z.strictObject({ vm: id, streams: z.int().min(0) })).max(256);
const evidence = z.strictObject({
  nonce: z.string().max(128),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  refusals: z.array(z.string().max(1000)).max(256),
  identities: z.array(z.string().regex(/^[0-9a-f]{16}$/)).max(64),
});

/**
 * Virtual machines, their evidence and who sends requests to them, by one program of the operator's
 * (`--vm-program`): whichever hypervisor and gateway a host has, it is the one place that knows.
 */
export class ProgramHands implements VirtualMachines, Guests, Gateway {
  readonly #run: RunProgram;

  constructor(run: RunProgram) {
    this.#run = run;
  }

  async vms(): Promise<readonly ObservedVm[]> {
    return this.#read('vms', {}, vms);
  }

  async start(
    vm: string,
    guest: { readonly image: string; readonly memoryBytes: number },
    bdfs: readonly string[],
  ): Promise<void> {
    await this.#do('start', { vm, ...guest, bdfs });
  }

  async stop(vm: string): Promise<void> {
    await this.#do('stop', { vm });
  }

  async attest(vm: string, nonce: string): Promise<GuestEvidence> {
    return this.#read('attest', { vm, nonce }, evidence);
  }

  async list(): Promise<readonly { readonly vm: string; readonly streams: number }[]> {
    return this.#read('admitted', {}, admitted);
  }

  async admit(vm: string, evidenceDigest: string): Promise<void> {
    await this.#do('admit', { vm, evidenceDigest });
  }

  async withdraw(vm: string): Promise<void> {
    await this.#do('withdraw', { vm });
  }

  async #do(verb: string, input: unknown): Promise<string> {
    try {
      return await this.#run(verb, input);
    } catch (cause) {
      const message = `the VM program’s ${verb}: ${(cause as Error).message}`;
      throw new FabricError('vm-failed', message, { cause });
    }
  }

  async #read<T>(verb: string, input: unknown, schema: z.ZodType<T>): Promise<T> {
    const text = await this.#do(verb, input);
    let document: unknown;
    try {
      document = JSON.parse(text);
    } catch {
      throw new FabricError('vm-failed', `the VM program’s ${verb}: it printed no JSON`);
    }
    const read = schema.safeParse(document);
    if (read.success) return read.data;
    const [issue] = read.error.issues;
    const where = `${issue!.path.map(String).join('.')}: ${issue!.message}`;
    throw new FabricError('vm-failed', `the VM program’s ${verb}: ${where}`);
  }
}

/** Where nobody has VMs of ours: for partitions alone. */
export const NO_GUESTS: VirtualMachines & Guests & Gateway = {
  start: refuse,
  stop: async () => undefined,
  attest: refuse,
  list: async () => [],
  admit: refuse,
  withdraw: async () => undefined,
};

async function refuse(): Promise<never> {
  throw new FabricError('vm-failed', 'no program starts VMs here: give --vm-program');
}
