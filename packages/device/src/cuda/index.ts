export { type CudaAvailability, cudaAvailability } from './availability.ts';
export { CudaDevice } from './cuda-device.ts';
export { type CudaDeviceOptions, openCudaDevice } from './open.ts';
