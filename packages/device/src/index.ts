export * from './bf16.ts';
export { checksumOf } from './checksum.ts';
export * from './clock/system-clock.ts';
export * from './clock/virtual-clock.ts';
export * from './command.ts';
export { type ContractCase, ContractError, contractCases } from './contract/index.ts';
export * from './cost.ts';
export { CpuDevice, type CpuDeviceOptions, openCpuDevice } from './cpu/cpu-device.ts';
export {
  type ConfidentialCall,
  type ConfidentialSettings,
  type ConfidentialState,
  type CudaAvailability,
  CudaDevice,
  type CudaDeviceOptions,
  type CudaGpu,
  cudaAvailability,
  type GpuStatus,
  type GpuStatuses,
  instrumentsOf,
  type ListedGpu,
  openCudaDevice,
  readConfidentialState,
  readGpuStatuses,
} from './cuda/index.ts';
export * from './device.ts';
export * from './errors.ts';
export { f32FromF16 } from './f16.ts';
export * from './fp8.ts';
export { hashTreeOf, hashTreeScratchBytes } from './hash-tree.ts';
export { openHostHandle } from './host-handle.ts';
export * from './instruments.ts';
export * from './model/model-device.ts';
export * from './ops.ts';
export * from './random.ts';
export * from './row-layout.ts';
export { openUploader, type Upload, Uploader } from './uploader.ts';
