// The state of an NVSwitch fabric, who is in it, and the record of it. The README says what each
// part is for.

export { Agent, type AgentOptions } from './agent/agent.ts';
export { FileStore, lockAgent } from './agent/store.ts';
export { FabricError, type FabricErrorCode } from './errors.ts';
export {
  type FabricManager,
  PARTITION_GPUS_MAX,
  PARTITIONS_MAX,
  type Partition,
} from './fm/manager.ts';
export { tableDigest } from './fm/table.ts';
export type { HostObservation, HostProbe, ObservedFabric, ObservedGpu } from './host/host.ts';
export type { Change, Grade, LogEntry, LoggedTenancy } from './log/entries.ts';
export type { FabricLog } from './log/log.ts';
export { type Plan, plan } from './plan/plan.ts';
export { readOffers, readTable } from './plan/read.ts';
export { planTableChange, type TableChange } from './plan/table-change.ts';
export { type SimulationOptions, type SimulationResult, simulate } from './simulate/simulate.ts';
export { changesBetween, type StatusDocument, statusLines, statusOf } from './status/status.ts';
export { withMaintenance } from './tenancy/rules.ts';
