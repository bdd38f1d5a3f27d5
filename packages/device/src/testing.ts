// For tests of this and other packages: a GPU where there is none.

export { hasCompiler } from '@bridgekeeper/native/testing';
export { compileStubGpu, type StubFact, type StubGpu } from './cuda/testing/stub-gpu.ts';
