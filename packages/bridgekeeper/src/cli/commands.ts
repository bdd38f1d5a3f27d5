import { ATTEST } from './attest.ts';
import { BENCH } from './bench.ts';
import { CHAT } from './chat.ts';
import type { CliCommand } from './command.ts';
import { DOCTOR } from './doctor.ts';
import { LOAD } from './load.ts';
import { PROBE } from './probe.ts';
import { SEAL } from './seal.ts';
import { SELFTEST } from './selftest.ts';
import { SERVE } from './serve.ts';
import { VERIFY } from './verify.ts';
import { VERSION } from './version.ts';

/** Every command with its flags, as --help lists them: what is wanted first comes first. */
export const COMMANDS: readonly CliCommand[] = [
  SERVE,
  CHAT,
  VERIFY,
  DOCTOR,
  PROBE,
  LOAD,
  SEAL,
  ATTEST,
  ...BENCH,
  SELFTEST,
  VERSION,
];
