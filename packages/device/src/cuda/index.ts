export { type CudaAvailability, type CudaGpu, cudaAvailability } from './availability.ts';
export {
  type ConfidentialCall,
  type ConfidentialSettings,
  type ConfidentialState,
  type ListedGpu,
  readConfidentialState,
} from './confidential.ts';
export { CudaDevice } from './cuda-device.ts';
export { type CudaDeviceOptions, openCudaDevice } from './open.ts';
