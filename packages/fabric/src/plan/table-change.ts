import { type PartitionDefinition, partitionOf, tableDigest } from '../fm/table.ts';
import type { AgentState } from '../tenancy/state.ts';

/** What changing a host's partition table does, shown before it is done. */
export interface TableChange {
  readonly from: string | null;
  readonly to: string;
  readonly added: readonly PartitionDefinition[];
  readonly removed: readonly PartitionDefinition[];
  /** Everything on the host: Fabric Manager reads a table when it starts, and starts plainly. */
  readonly drained: readonly {
    readonly tenancy: string;
    readonly modules: readonly number[];
    /** Whether the new table has a partition for it to come back to. */
    readonly returns: boolean;
  }[];
  /** In order. */
  readonly steps: readonly string[];
}

export function planTableChange(
  { daemon, tenancies }: AgentState,
  next: readonly PartitionDefinition[],
): TableChange {
  const now = daemon.table?.partitions ?? [];
  const to = tableDigest(next);
  const drained = tenancies.map(({ id, modules }) => ({
    tenancy: id,
    modules,
    returns: partitionOf(next, modules) !== undefined,
  }));
  const isSame = to === daemon.table?.digest;
  return {
    from: daemon.table?.digest ?? null,
    to,
    added: next.filter(({ modules }) => partitionOf(now, modules) === undefined),
    removed: now.filter(({ modules }) => partitionOf(next, modules) === undefined),
    drained: isSame ? [] : drained,
    steps: isSame
      ? []
      : [
          `drain, stop and release ${drained.length} tenancies; nothing new begins`,
          'stop Fabric Manager, start it plainly with the table of its configuration',
          `compare its table with ${to}; if it is another one, go on with that of before`,
          'reset every GPU before its next guest, and let what is still desired come back',
        ],
  };
}
