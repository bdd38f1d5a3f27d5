// What needs Node: files, sockets, libraries of the machine. The verifier itself runs in browsers.
export type { CpuEvidence } from './node/collect/cpu-evidence.ts';
export {
  type MachineSources,
  type Sought,
  seekCpuEvidence,
  seekGpuEvidence,
  seekObservation,
} from './node/collect/machine.ts';
export { diskStore, referenceFolder } from './node/disk-store.ts';
export { EvidenceFileError, type ReadFiles, readEvidenceFiles } from './node/evidence-files.ts';
export type { GpuEvidenceEntry } from './node/nvml/evidence.ts';
