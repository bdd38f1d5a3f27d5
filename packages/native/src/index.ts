export { CublasLt, LT } from './cublaslt.ts';
export { CUDA, DRIVER_LIBRARY, Driver } from './driver.ts';
export { endProcess } from './end-process.ts';
export { NativeError } from './errors.ts';
export { lockFile } from './file-lock.ts';
export {
  CUBLASLT_LIBRARY,
  findLibrary,
  hostEnvironment,
  type LibraryWanted,
  NVRTC_LIBRARY,
} from './libraries.ts';
export { addressOf, OutCell } from './library.ts';
export { NVFM, Nvfm, type NvfmAddress } from './nvfm.ts';
export {
  describeStatus,
  isAbsent,
  NVML,
  Nvml,
  type NvmlFunction,
  type NvmlSettings,
  type NvmlText,
} from './nvml.ts';
export {
  CERTIFICATE,
  FABRIC,
  PDI,
  PROCESS_INFO,
  REMAP_TABLE,
  REPORT,
  structOf,
} from './nvml-layout.ts';
export { Nvrtc, type Program } from './nvrtc.ts';
