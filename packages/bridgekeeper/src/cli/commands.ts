import { ATTEST } from './attest.ts';
import { BENCH } from './bench.ts';
import type { CliCommand } from './command.ts';
import { CONNECT } from './connect.ts';
import { DOCTOR } from './doctor.ts';
import { LOAD } from './load.ts';
import { PROBE } from './probe.ts';
import { SEAL } from './seal.ts';
import { SELFTEST } from './selftest.ts';
import { SERVE } from './serve.ts';
import { VERIFY } from './verify.ts';
import { VERSION } from './version.ts';

/** Every command with its flags, as --help lists them. */
export const COMMANDS: readonly CliCommand[] = [
  SERVE,
  DOCTOR,
  ATTEST,
  CONNECT,
  LOAD,
  PROBE,
  SEAL,
  SELFTEST,
  VERIFY,
  VERSION,
  ...BENCH,
];
