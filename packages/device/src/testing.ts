// For tests of this and other packages: a GPU where there is none, and what checks FP8.
export { hasCompiler } from '@bridgekeeper/native/testing';
export { compileStubGpu, type StubGpu } from './cuda/testing/stub-gpu.ts';
export { E4M3_VALUES, e4m3FromF32, f32FromE4m3 } from './fp8.ts';
