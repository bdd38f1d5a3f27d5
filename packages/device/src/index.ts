export { bf16FromF32, f32FromBf16 } from './bf16.ts';
export { SystemClock } from './clock/system-clock.ts';
export { VirtualClock } from './clock/virtual-clock.ts';
export { CommandWriter } from './command.ts';
export {
  type Automaton,
  type AutomatonState,
  type Edge,
  encodeAutomaton,
} from './contract/automaton.ts';
export { type ContractCase, contractCases } from './contract/index.ts';
export {
  busiestAssignments,
  busiestExperts,
  expectedExperts,
  expertMatrixBytes,
  matrixBytes,
} from './cost.ts';
export { openCpuDevice } from './cpu/cpu-device.ts';
export {
  type ConfidentialSettings,
  CudaWarmUp,
  cudaAvailability,
  instrumentsOf,
  openCudaDevice,
  openCudaRanks,
  readConfidentialState,
  readGpuStatuses,
} from './cuda/index.ts';
export {
  bytesPerElement,
  type CopyRequest,
  type Device,
  type DeviceBuffer,
  type DeviceEvent,
  type DeviceInfo,
  type DeviceKind,
  type ElementType,
  type Graph,
  type HostBuffer,
  type HostHandle,
  type Lane,
  type LaneOptions,
  type Launch,
  type Slice,
  type Stream,
  slice,
  type UploadedCopy,
  type UploaderStart,
  type UploadTarget,
} from './device.ts';
export { DeviceError, type DeviceErrorCode } from './errors.ts';
export { f32FromF16 } from './f16.ts';
export { E4M3_MAX } from './fp8.ts';
export { GRAMMAR_ROW, GRAMMAR_ROW_WORDS, maskWords } from './grammar-layout.ts';
export { GrammarWalk, grammarFault, grammarPlace, grammarRowLength } from './grammar-step.ts';
export { splitDevice } from './group/group-device.ts';
export { hashTreeOf, hashTreeScratchBytes } from './hash-tree.ts';
export { arrivingBytes, linksOf, type Meeting, meetingOf, pushedBytesMax } from './law/links.ts';
export { chainOn, chainToken, chainWord } from './model/chains.ts';
export { openModelDevice } from './model/model-device.ts';
export { type ReachedPoint, reachedFactor } from './model/work.ts';
export {
  type Activation,
  type CollectiveName,
  type ExpertMatrix,
  type ExpertShare,
  elementMatrix,
  expertDownWorkspace,
  type GateForm,
  type Int4Order,
  LINE_KV_PARTS,
  type LinearSizes,
  type LineKv,
  linearWorkspace,
  type Matrix,
  MXFP4_BLOCK,
  type NormOffset,
  type OpArgs,
  qkvWidth,
  routeWorkspace,
  type StorageFormat,
  type Weighing,
} from './ops.ts';
export { hash32, mix32 } from './random.ts';
export {
  COMMAND_HEADER_WORDS,
  CONTROL_WORDS,
  FINISH,
  LOGPROB,
  LOGPROB_WORDS,
  MAX_BIAS,
  MAX_DRAFTS,
  MAX_LOOKUP,
  MAX_STOP_IDS,
  MAX_TOP_LOGPROBS,
  RECORD_WORDS,
  RESULT,
  RESULT_HEADER,
  RESULT_HEADER_WORDS,
  RESULT_WORDS,
  ROW,
  ROW_FLAG,
  ROW_WORDS,
  resultSlotWords,
  TARGET,
} from './row-layout.ts';
export { buildVocabulary, type Vocabulary } from './vocabulary.ts';
