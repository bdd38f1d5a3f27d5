import { createHash } from 'node:crypto';
import type { Partition } from './manager.ts';

/** What may be activated, without what is. */
export interface PartitionDefinition {
  readonly id: number;
  readonly modules: readonly number[];
}

export function definitionsOf(partitions: readonly PartitionDefinition[]): PartitionDefinition[] {
  return partitions.map(({ id, modules }) => ({ id, modules }));
}

/** SHA-256 of the table that Fabric Manager loaded: ids and modules, ascending. */
export function tableDigest(partitions: readonly PartitionDefinition[]): string {
  const lines = partitions
    .toSorted((one, other) => one.id - other.id)
    .map(({ id, modules }) => `${id} ${modules.toSorted((a, b) => a - b).join(',')}\n`);
  return createHash('sha256')
    .update(`partition table v1\n${lines.join('')}`)
    .digest('hex');
}

/** The partition that has exactly these modules: ids are the table’s, and tables differ. */
export function partitionOf<P extends PartitionDefinition>(
  partitions: readonly P[],
  modules: readonly number[],
): P | undefined {
  const wanted = setName(modules);
  return partitions.find((partition) => setName(partition.modules) === wanted);
}

export function overlaps(one: readonly number[], other: readonly number[]): boolean {
  return one.some((module) => other.includes(module));
}

export function activeAmong(partitions: readonly Partition[]): Partition[] {
  return partitions.filter(({ isActive }) => isActive);
}

function setName(modules: readonly number[]): string {
  return modules.toSorted((a, b) => a - b).join(',');
}
