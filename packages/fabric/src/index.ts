// The state of an NVSwitch fabric, who is in it, and the record of it. The README says what each
// part is for.

export { Agent } from './agent/agent.ts';
export { AgentCommands } from './agent/commands.ts';
export { agentListener } from './agent/listener.ts';
export { arrivalOf, runAgent, runUntil, withoutTenancy, withTenancy } from './agent/run.ts';
export { FileStore, lockAgent } from './agent/store.ts';
export { FabricError } from './errors.ts';
export { nmxManager, readRack } from './fm/nmx.ts';
export { nvfmManager, readFmAddress } from './fm/nvfm.ts';
export { daemonVersion } from './host/linux-parts.ts';
export { nvmlDriverView } from './host/nvml.ts';
export { verifyEntries } from './log/bundle.ts';
export { fabricClaims } from './log/claims.ts';
export { type CosignedLog, Cosigner, type PostToWitness } from './log/cosigner.ts';
export { readOpenings } from './log/entries.ts';
export { readLogFolder } from './log/file-log.ts';
export { logKeyReportData } from './log/note.ts';
export { type FetchTile, readLogTiles } from './log/read-tiles.ts';
export { replayLog } from './log/replay.ts';
export { gradeOf, readTenantEvidence, statementsOf } from './log/statements.ts';
export { logListener } from './log/tiles.ts';
export { witnessListener } from './log/witness.ts';
export {
  type HostLibraries,
  type HostSettings,
  lookAtHost,
  type OpenAgent,
  openAgent,
  openLog,
  openWitness,
} from './open.ts';
export { dstackChanges, readDstackGoal } from './plan/dstack.ts';
export { type HostOffer, type Plan, plan } from './plan/plan.ts';
export { readOffers, readTable } from './plan/read.ts';
export { planTableChange, type TableChange } from './plan/table-change.ts';
export { openCudaPeers } from './probe/cuda-peers.ts';
export { H200_PAIR } from './probe/law.ts';
export { modelPeers } from './probe/model-peers.ts';
export type { PeerGpus } from './probe/peers.ts';
export { type FabricProbe, probeFabric } from './probe/probe.ts';
export { probeLines } from './probe/text.ts';
export { SCENARIO_ROUNDS, SCENARIOS } from './simulate/scenarios.ts';
export { type SimulationOptions, type SimulationResult, simulate } from './simulate/simulate.ts';
export { World as SimulatedHost } from './simulate/world.ts';
export { changesBetween, type StatusDocument, statusLines, statusOf } from './status/status.ts';
export { withMaintenance } from './tenancy/rules.ts';
export type { AgentState } from './tenancy/state.ts';
