export { commonVariants, type KernelVariant } from './cuda/kernels/common-variants.ts';
export {
  LIBRARY_FOLDER,
  LIBRARY_INDEX,
  type LibraryFile,
  type LibraryIndex,
  libraryKey,
} from './cuda/kernels/kernel-library.ts';
export { kernelProgram } from './cuda/kernels/kernel-source.ts';
