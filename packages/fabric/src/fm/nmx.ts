import { readFileSync } from 'node:fs';
import type { ChannelCredentials, Client, ServiceError } from '@grpc/grpc-js';
import { z } from 'zod';
import { FabricError } from '../errors.ts';
import {
  type FabricManager,
  PARTITION_GPUS_MAX,
  PARTITIONS_MAX,
  type Partition,
} from './manager.ts';
import { FM_STATUS } from './status.ts';

const CALL_SECONDS = 60;
const MAJOR_VERSION = 'PROTO_MSG_MAJOR_VERSION';
/** The most that is read of a rack: 72 GPUs, each in a partition of its own, and room beside. */
const LISTED_MAX = 256;
const ANSWER_BYTES_MAX = 4 * 2 ** 20;
/** gRPC's own: the call may or may not have been carried out. */
const UNANSWERED = new Set([1, 4, 13, 14]);
const UNIMPLEMENTED = 12;

const place = z.strictObject({
  module: z.int().min(1).max(PARTITION_GPUS_MAX),
  chassis: z.int().min(0),
  slot: z.int().min(0),
  host: z.int().min(0),
  gpu: z.int().min(0).max(64),
});
const rackSchema = z.strictObject({
  places: z.array(place).min(1).max(PARTITION_GPUS_MAX),
  partitions: z
    .array(
      z.strictObject({
        id: z.int().min(1).max(65_535),
        modules: z.array(z.int().min(1).max(PARTITION_GPUS_MAX)).min(1).max(PARTITION_GPUS_MAX),
      }),
    )
    .max(PARTITIONS_MAX),
});

/** What one agent has of a rack: places of GPUs by module, and the partitions that it may make. */
export type Rack = z.infer<typeof rackSchema>;

/** As JSON; null: it is not that, or names a module or a place twice. */
export function readRack(text: string): Rack | null {
  try {
    const rack = rackSchema.parse(JSON.parse(text));
    const modules = new Set(rack.places.map(({ module }) => module));
    const isDistinct =
      modules.size === rack.places.length &&
      new Set(rack.places.map(nameOf)).size === rack.places.length &&
      new Set(rack.partitions.map(({ id }) => id)).size === rack.partitions.length;
    const isKnown = rack.partitions.every(
      (each) =>
        new Set(each.modules).size === each.modules.length &&
        each.modules.every((module) => modules.has(module)),
    );
    return isDistinct && isKnown ? rack : null;
  } catch {
    return null;
  }
}

export interface NmxOptions {
  /** `host:port`. */
  readonly address: string;
  /** NVIDIA's `nmx_c.proto`: its licence lets nobody give it out, so it is the operator's copy. */
  readonly protoPath: string;
  readonly rack: Rack;
  /** Certificate authority, own certificate and its key, PEM; null: without, to loopback alone. */
  readonly tls: { readonly ca: string; readonly cert: string; readonly key: string } | null;
  /** Of Fabric Manager in the rack; the controller names components by names of its own. */
  readonly component: string;
  /** Calls back once, after so many seconds, unless what it returns is called before. */
  readonly after: (seconds: number, action: () => void) => () => void;
  readonly timeoutSeconds?: number;
}

/**
 * A rack's NMX-C as the Fabric Manager of one agent: activating a partition of its table creates
 * it, deactivating deletes it. Partitions that others made and that have a GPU of ours are listed
 * as active, so that an agent finds them foreign. Each call connects, acts and disconnects.
 */
export function nmxManager(options: NmxOptions): FabricManager {
  const { rack } = options;
  const call = <T>(
    what: string,
    method: string,
    request: object,
    schema: z.ZodType<T>,
  ): Promise<T> => exchange(options, what, method, request, schema);
  const locationOf = (module: number) => {
    const { chassis, slot, host, gpu } = rack.places.find((each) => each.module === module)!;
    return { loc: { chassis_id: chassis, slot_id: slot, host_id: host }, gpu_id: gpu };
  };
  const defined = (id: number) => {
    const partition = rack.partitions.find((each) => each.id === id);
    if (partition !== undefined) return partition;
    const message = `NMX-C: partition ${id} is not in the rack's table`;
    throw new FabricError('fm-refused', message, { status: -1 });
  };
  return {
    async version() {
      const { components_ver } = await call('saying hello', 'Hello', hello, helloAnswer);
      const found = components_ver.find(({ key }) => key === options.component);
      if (found !== undefined) return found.value;
      const keys = components_ver.map(({ key }) => key).join(', ');
      const message = `NMX-C names no component ${options.component}; it has: ${keys || 'none'}`;
      throw new FabricError('fm-version', message);
    },
    async partitions() {
      const request = { gateway_id: GATEWAY };
      const answer = await call('listing', 'GetPartitionInfoList', request, listAnswer);
      return partitionsOf(rack, answer.partition_info_list);
    },
    async activate(id) {
      const { modules } = defined(id);
      const request = {
        gateway_id: GATEWAY,
        name: `bk-${id}`,
        partition_id: { partition_id: id },
        gpu_resource_id: modules.map((module) => ({ gpu_location: locationOf(module) })),
      };
      await call(`creating partition ${id}`, 'CreatePartition', request, changeAnswer);
    },
    async deactivate(id) {
      defined(id);
      const request = { gateway_id: GATEWAY, partition_id: { partition_id: id } };
      await call(`deleting partition ${id}`, 'DeletePartition', request, changeAnswer);
    },
    // A rack's controller keeps its partitions over its own restarts.
    setActivated: async () => undefined,
  };
}

const GATEWAY = 'bridgekeeper';
const hello = { gateway_id: GATEWAY, major_version: MAJOR_VERSION };

const header = z.object({ return_code: z.string() }).nullable();
const number = z.union([z.string(), z.number()]).transform(Number).pipe(z.int().min(0));
const helloAnswer = z.object({
  server_header: header,
  major_version: z.string(),
  components_ver: z.array(z.object({ key: z.string(), value: z.string() })).max(LISTED_MAX),
});
const changeAnswer = z.object({ server_header: header });
const info = z.object({
  partition_id: z.object({ partition_id: number }).nullable(),
  num_gpus: number,
  health: z.string(),
  gpu_location_list: z
    .array(
      z.object({
        loc: z.object({ chassis_id: number, slot_id: number, host_id: number }).nullable(),
        gpu_id: number,
      }),
    )
    .max(LISTED_MAX),
  gpu_uid_list: z.array(z.string()).max(LISTED_MAX),
});
const listAnswer = z.object({
  server_header: header,
  partition_info_list: z.array(info).max(LISTED_MAX),
});

function nameOf(at: { chassis: number; slot: number; host: number; gpu: number }): string {
  return `${at.chassis}/${at.slot}/${at.host}/${at.gpu}`;
}

/** Throws FabricError 'fm-out-of-bounds' for a list that contradicts itself or names no places. */
function partitionsOf(rack: Rack, listed: readonly z.infer<typeof info>[]): Partition[] {
  const moduleAt = new Map(rack.places.map((each) => [nameOf(each), each.module]));
  const there = listed.map((each) => {
    const id = each.partition_id?.partition_id ?? 0;
    const names = each.gpu_location_list.map(({ loc, gpu_id }) =>
      nameOf({
        chassis: loc?.chassis_id ?? 0,
        slot: loc?.slot_id ?? 0,
        host: loc?.host_id ?? 0,
        gpu: gpu_id,
      }),
    );
    if (names.length === 0 && each.gpu_uid_list.length > 0) {
      throw beyond(`partition ${id} by unique ids of GPUs, whose places it does not tell`);
    }
    if (id === 0 || names.length !== each.num_gpus || new Set(names).size !== names.length) {
      throw beyond(`partition ${id} of ${each.num_gpus} GPUs, and ${new Set(names).size} places`);
    }
    const modules = names.flatMap((name) => moduleAt.get(name) ?? []).sort((a, b) => a - b);
    return { id, modules, isOurs: modules.length === names.length, health: each.health };
  });
  if (new Set(there.map(({ id }) => id)).size !== there.length) throw beyond('one id twice');
  const known = rack.partitions.map(({ id, modules }): Partition => {
    const ascending = modules.toSorted((a, b) => a - b);
    const now = there.find((each) => each.id === id);
    const isIt = now?.isOurs === true && now.modules.join() === ascending.join();
    const isWhole = now?.health === 'NMX_PARTITION_HEALTH_HEALTHY';
    const link = { available: isIt && !isWhole ? 0 : 1, possible: 1 };
    return { id, isActive: isIt, modules: ascending, links: modules.map(() => link) };
  });
  const foreign = there
    .filter(({ id, modules }) => {
      const own = known.find((each) => each.id === id);
      return modules.length > 0 && own?.isActive !== true;
    })
    .map(({ id, modules }): Partition => {
      const link = { available: 1, possible: 1 };
      // An id of ours with other GPUs is another partition: it must not be taken for ours.
      const other = known.some((each) => each.id === id) ? id + FOREIGN_IDS : id;
      return { id: other, isActive: true, modules, links: modules.map(() => link) };
    });
  return [...known, ...foreign].sort((a, b) => a.id - b.id);
}

/** Beyond all that a rack gives out. */
const FOREIGN_IDS = 2 ** 20;

function beyond(what: string): FabricError {
  return new FabricError('fm-out-of-bounds', `NMX-C lists ${what}: nothing is read of it`);
}

async function exchange<T>(
  { address, protoPath, tls, after, timeoutSeconds = CALL_SECONDS }: NmxOptions,
  what: string,
  method: string,
  request: object,
  schema: z.ZodType<T>,
): Promise<T> {
  const grpc = await import('@grpc/grpc-js');
  const Controller = await controllerOf(protoPath);
  const credentials: ChannelCredentials =
    tls === null
      ? grpc.credentials.createInsecure()
      : grpc.credentials.createSsl(...pemOf(tls.ca, tls.key, tls.cert));
  if (tls === null && !/^(127\.0\.0\.1|localhost|\[::1\]):\d+$/.test(address)) {
    const message = `${address} is not this machine: NMX-C there needs certificates`;
    throw new FabricError('fm-missing', message);
  }
  const client = new Controller(address, credentials, {
    'grpc.max_receive_message_length': ANSWER_BYTES_MAX,
    'grpc.enable_retries': 0,
  });
  try {
    const answer = await new Promise<unknown>((resolve, reject) => {
      const send = (client as unknown as Readonly<Record<string, Send>>)[method]!;
      const sent = send.call(client, request, (error, value) => {
        stop();
        if (error === null) resolve(value);
        else reject(failureOf(what, error));
      });
      const stop = after(timeoutSeconds, () => sent.cancel());
    });
    return judged(what, answer, schema);
  } finally {
    client.close();
  }
}

type Send = (
  request: object,
  done: (error: ServiceError | null, answer: unknown) => void,
) => { cancel(): void };

const loaded = new Map<
  string,
  Promise<new (...of: ConstructorParameters<typeof Client>) => Client>
>();

/** Throws FabricError 'fm-missing'. */
function controllerOf(protoPath: string) {
  const known = loaded.get(protoPath) ?? load(protoPath);
  loaded.set(protoPath, known);
  return known;
}

async function load(protoPath: string) {
  const [grpc, loader] = await Promise.all([import('@grpc/grpc-js'), import('@grpc/proto-loader')]);
  try {
    const definition = loader.loadSync(protoPath, {
      keepCase: true,
      longs: String,
      enums: String,
      defaults: true,
      arrays: true,
    });
    const { nmx_c } = grpc.loadPackageDefinition(definition) as unknown as {
      nmx_c: { NMX_Controller: new (...of: ConstructorParameters<typeof Client>) => Client };
    };
    return nmx_c.NMX_Controller;
  } catch (cause) {
    const message = `${protoPath} is not NVIDIA's nmx_c.proto: ${(cause as Error).message}`;
    throw new FabricError('fm-missing', message, { cause });
  }
}

function pemOf(...paths: readonly string[]): [Buffer, Buffer, Buffer] {
  try {
    const [ca, key, cert] = paths.map((path) => readFileSync(path));
    return [ca!, key!, cert!];
  } catch (cause) {
    throw new FabricError('fm-missing', `NMX-C's certificates: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function failureOf(what: string, error: ServiceError): FabricError {
  const text = `NMX-C, ${what}: ${error.details || error.message}`;
  if (UNANSWERED.has(error.code)) {
    const message = `${text}: read the partitions before trying again`;
    return new FabricError('fm-unanswered', message, { cause: error });
  }
  const code = error.code === UNIMPLEMENTED ? 'fm-version' : 'fm-out-of-bounds';
  return new FabricError(code, text, { cause: error });
}

/** Its codes are those of Fabric Manager, counted up from 1; what differs is said here. */
function judged<T>(what: string, answer: unknown, schema: z.ZodType<T>): T {
  const read = schema.safeParse(answer);
  if (!read.success) {
    const [issue] = read.error.issues;
    throw beyond(`something at ${issue!.path.join('.')} that cannot be: ${issue!.message}`);
  }
  const { server_header: head, major_version: major } = read.data as {
    readonly server_header: { readonly return_code: string } | null;
    readonly major_version?: string;
  };
  if (major !== undefined && major !== MAJOR_VERSION) {
    throw new FabricError('fm-version', `NMX-C speaks ${major}, this agent ${MAJOR_VERSION}`);
  }
  const code = head?.return_code ?? 'nothing';
  if (code === 'NMX_ST_SUCCESS') return read.data;
  const status = statusOf(code);
  const known = FM_STATUS[status];
  const text = `NMX-C, ${what}: ${code}${known === undefined ? '' : `: ${known.advice}`}`;
  const kind =
    status === -6 ? 'fm-version' : status === -5 || status === -9 ? 'fm-unanswered' : 'fm-refused';
  throw new FabricError(kind, text, { status });
}

/** Created twice, it is active already; deleted twice, it is inactive. */
const ALREADY: Readonly<Record<string, number>> = {
  NMX_ST_PARTITION_EXISTS: -7,
  NMX_ST_PARTITION_ID_IN_USE: -7,
  NMX_ST_PARTITION_NAME_IN_USE: -7,
  NMX_ST_PARTITION_ID_NOT_IN_USE: -13,
  NMX_ST_PARTITION_NAME_NOT_IN_USE: -13,
};

function statusOf(code: string): number {
  const already = ALREADY[code];
  if (already !== undefined) return already;
  const name = code.replace('NMX_ST_', '');
  const found = Object.entries(FM_STATUS).find(([, each]) => each.name === name);
  return found === undefined ? -2 : Number(found[0]);
}
