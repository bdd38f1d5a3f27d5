import type { CliCommand } from './command.ts';

/**
 * How each command is loaded, by its first word and in the order of --help. A command loads what it
 * needs and nothing of the others: an engine, a server and libraries of the machine cost far more
 * than verifying does.
 */
const LOADERS: Readonly<Record<string, () => Promise<readonly CliCommand[]>>> = {
  serve: async () => [(await import('./serve.ts')).SERVE],
  doctor: async () => [(await import('./doctor.ts')).DOCTOR],
  attest: async () => [(await import('./attest.ts')).ATTEST],
  load: async () => [(await import('./load.ts')).LOAD],
  probe: async () => [(await import('./probe.ts')).PROBE],
  seal: async () => [(await import('./seal.ts')).SEAL],
  selftest: async () => [(await import('./selftest.ts')).SELFTEST],
  measure: async () => (await import('./measure.ts')).MEASURE,
  verify: async () => [(await import('./verify.ts')).VERIFY],
  'verify-bundle': async () => [(await import('./verify-bundle.ts')).VERIFY_BUNDLE],
  version: async () => [(await import('./version.ts')).VERSION],
  bench: async () => (await import('./bench.ts')).BENCH,
};

/** The commands that begin with that word; every one where none does, as --help lists them. */
export async function loadCommands(word?: string): Promise<readonly CliCommand[]> {
  if (word !== undefined && Object.hasOwn(LOADERS, word)) return LOADERS[word]!();
  return (await Promise.all(Object.values(LOADERS).map((load) => load()))).flat();
}
