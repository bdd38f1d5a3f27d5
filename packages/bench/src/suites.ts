import { CONTROL_SUITE } from './control.ts';
import { DECODE_SUITE } from './decode.ts';
import { FABRIC_SUITE } from './fabric.ts';
import { FUZZ_SUITE } from './fuzz/suite.ts';
import { GATEWAY_SUITE } from './gateway/suite.ts';
import { GRAMMAR_SUITE } from './grammar/suite.ts';
import { HOSTILE_SUITE } from './hostile.ts';
import { KV_SUITE } from './kv/suite.ts';
import { KV_RESTORE_SUITE } from './kv-restore.ts';
import { PLAN_SUITE } from './plan/suite.ts';
import { POLICIES_SUITE } from './policies.ts';
import { PREFILL_SUITE } from './prefill.ts';
import { SERVE_SUITE } from './serve/suite.ts';
import { SPECULATION_SUITE } from './speculation.ts';
import { SSE_SUITE } from './sse.ts';
import { START_SUITE } from './start.ts';
import type { Suite } from './suite.ts';
import { VERIFY_SUITE } from './verify/suite.ts';

/** Every suite of `bridgekeeper bench`. */
export const SUITES: readonly Suite[] = [
  SERVE_SUITE,
  DECODE_SUITE,
  PREFILL_SUITE,
  KV_RESTORE_SUITE,
  POLICIES_SUITE,
  SPECULATION_SUITE,
  PLAN_SUITE,
  GRAMMAR_SUITE,
  SSE_SUITE,
  HOSTILE_SUITE,
  KV_SUITE,
  START_SUITE,
  FUZZ_SUITE,
  VERIFY_SUITE,
  FABRIC_SUITE,
  CONTROL_SUITE,
  GATEWAY_SUITE,
];
