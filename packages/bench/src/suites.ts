import { DECODE_SUITE } from './decode.ts';
import { FABRIC_SUITE } from './fabric.ts';
import { FUZZ_SUITE } from './fuzz/suite.ts';
import { GRAMMAR_SUITE } from './grammar/suite.ts';
import { HOSTILE_SUITE } from './hostile.ts';
import { POLICIES_SUITE } from './policies.ts';
import { PREFILL_SUITE } from './prefill.ts';
import { SERVE_SUITE } from './serve/suite.ts';
import { SSE_SUITE } from './sse.ts';
import { START_SUITE } from './start.ts';
import type { Suite } from './suite.ts';
import { VERIFY_SUITE } from './verify/suite.ts';

/** Every suite of `bridgekeeper bench`. */
export const SUITES: readonly Suite[] = [
  SERVE_SUITE,
  DECODE_SUITE,
  PREFILL_SUITE,
  POLICIES_SUITE,
  GRAMMAR_SUITE,
  SSE_SUITE,
  HOSTILE_SUITE,
  START_SUITE,
  FUZZ_SUITE,
  VERIFY_SUITE,
  FABRIC_SUITE,
];
