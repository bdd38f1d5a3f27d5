// For tests of this and other packages: a GPU where there is none, devices that fail, grammars by
// hand and at random, and what checks FP8.
export { hasCompiler } from '@bridgekeeper/native/testing';
export {
  type Automaton,
  encodeAutomaton,
  isOver,
  mayEnd,
  type Place,
  placeAfter,
  randomAutomaton,
  randomText,
  stateOf,
} from './contract/automaton.ts';
export { Dice } from './contract/workbench.ts';
export { compileStubGpu, type StubGpu } from './cuda/testing/stub-gpu.ts';
export { E4M3_VALUES, e4m3FromF32, f32FromE4m3 } from './fp8.ts';
export { DEVICE_FAULT } from './testing/device-fault.ts';
export { controlBytes } from './vocabulary.ts';
