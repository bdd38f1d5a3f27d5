// For tests of this and other packages: a GPU where there is none.
export { compileStubGpu, type StubFact, type StubGpu } from './cuda/testing/stub-gpu.ts';
export { hasCompiler } from './cuda/testing.ts';
