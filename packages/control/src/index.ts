// Hosts with confidential GPUs as a fleet. The README says what each part is for.

export type { Services } from './admission.ts';
export { HostAgent } from './agent/agent.ts';
export { askReplica, controlLink, type Identity, joinControl, readIdentity } from './agent/link.ts';
export { memoryFile } from './agent/memory.ts';
export type { HostObservation } from './api/agent.ts';
export { type ControlAddress, callControl, watchControl } from './client.ts';
export { ControlError } from './errors.ts';
export { measureControl } from './measure.ts';
export { openControl } from './open.ts';
export type { LoadQuestion, Predict, Predicted } from './serve/operator.ts';
export { simulateFleet } from './simulate/simulate.ts';
export { SYSTEM_CHANCE, SYSTEM_TIME } from './system.ts';
export { dstackHost } from './vmm/dstack-host.ts';
export { FabricVmm, type HostFabric } from './vmm/fabric.ts';
export { type AskFabric, hostFabric } from './vmm/host-fabric.ts';
export { kubernetesHost } from './vmm/kubernetes-host.ts';
export { pretendedFacts } from './vmm/pretended.ts';
export { type ImageProgram, ProcessVmm } from './vmm/process.ts';
export type { Vmm } from './vmm/vmm.ts';
