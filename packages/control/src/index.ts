// Hosts with confidential GPUs as a fleet. The README says what each part is for.

export type { Services } from './admission.ts';
export { HostAgent } from './agent/agent.ts';
export { askReplica, controlLink, type Identity, joinControl, readIdentity } from './agent/link.ts';
export { memoryFile } from './agent/memory.ts';
export { type ControlAddress, callControl, watchControl } from './client.ts';
export { ControlError } from './errors.ts';
export { openControl } from './open.ts';
export { SYSTEM_CHANCE, SYSTEM_TIME } from './system.ts';
export { pretendedFacts } from './vmm/pretended.ts';
export { type ImageProgram, ProcessVmm } from './vmm/process.ts';
