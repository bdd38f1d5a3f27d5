import { z } from 'zod';
import { FabricError } from '../errors.ts';
import { PARTITION_GPUS_MAX, PARTITIONS_MAX } from '../fm/manager.ts';
import type { PartitionDefinition } from '../fm/table.ts';
import type { HostOffer } from './plan.ts';

const HOSTS_MAX = 100_000;

const moduleId = z.int().min(1).max(PARTITION_GPUS_MAX);
const modules = z
  .array(moduleId)
  .max(PARTITION_GPUS_MAX)
  .refine((list) => new Set(list).size === list.length, { error: 'names a module twice' });
const version = z.string().max(32).nullable();
const isDistinct = (list: readonly number[]) => new Set(list).size === list.length;

const definitions = z
  .array(z.strictObject({ id: z.int().min(0), modules: modules.min(1) }))
  .max(PARTITIONS_MAX)
  .refine((list) => isDistinct(list.map(({ id }) => id)), { error: 'two partitions have one id' });

const hosts = z.strictObject({
  /** Hosts have few different ones. */
  tables: z.record(z.string(), definitions),
  hosts: z
    .array(
      z.strictObject({
        host: z.string().max(64),
        platform: z.string().max(32),
        fmVersion: version,
        driverVersion: version,
        table: z.string(),
        claimed: modules,
        quarantined: modules,
        isFrozen: z.boolean(),
        grade: z.enum(['host', 'service-vm', 'guest']),
        coldStartSeconds: z.number().min(0),
        bridgeSecondsPerToken: z.number().min(0),
        evidenceAgeSeconds: z.number().min(0).nullable().default(null),
      }),
    )
    .max(HOSTS_MAX),
});

/** What Fabric Manager reads when it starts (SHARED_PARTITION_DEFINITION_FILE). */
const definitionFile = z.strictObject({
  version: z.literal(0),
  name: z.string().optional(),
  time: z.string().optional(),
  partitionInfo: z
    .array(z.strictObject({ partitionId: z.int().min(0), gpuModuleIds: modules.min(1) }))
    .max(PARTITIONS_MAX)
    .refine((list) => isDistinct(list.map(({ partitionId }) => partitionId)), {
      error: 'two partitions have one id',
    }),
});

/** Hosts to place on. Throws FabricError 'bad-plan'. */
export function readOffers(text: string): HostOffer[] {
  const { tables, hosts: list } = read(hosts, text, 'the hosts');
  return list.map((host) => {
    const table = Object.hasOwn(tables, host.table) ? tables[host.table] : undefined;
    if (table !== undefined) return { ...host, table };
    throw new FabricError('bad-plan', `the hosts: ${host.host} has table ${host.table}, not given`);
  });
}

/** A partition table as Fabric Manager reads it. Throws FabricError 'bad-plan'. */
export function readTable(text: string): PartitionDefinition[] {
  const { partitionInfo } = read(definitionFile, text, 'the partition table');
  return partitionInfo.map(({ partitionId, gpuModuleIds }) => ({
    id: partitionId,
    modules: gpuModuleIds.toSorted((a, b) => a - b),
  }));
}

function read<T>(schema: z.ZodType<T>, text: string, what: string): T {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new FabricError('bad-plan', `${what}: this is no JSON`, { cause });
  }
  const result = schema.safeParse(document);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const where = issue!.path.map(String).join('.');
  throw new FabricError(
    'bad-plan',
    `${what}: ${where === '' ? '' : `${where}: `}${issue!.message}`,
  );
}
