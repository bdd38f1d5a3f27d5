// The state of an NVSwitch fabric, who is in it, and the record of it. The README says what each
// part is for.

export { FabricError, type FabricErrorCode } from './errors.ts';
export {
  type FabricManager,
  PARTITION_GPUS_MAX,
  PARTITIONS_MAX,
  type Partition,
} from './fm/manager.ts';
export type { HostObservation, HostProbe, ObservedFabric, ObservedGpu } from './host/host.ts';
export type { Change, Grade, LogEntry, LoggedTenancy } from './log/entries.ts';
export type { FabricLog } from './log/log.ts';
