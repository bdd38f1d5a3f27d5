import type { CliCommand } from './command.ts';

/**
 * How each command is loaded, by its first word and in the order of --help: what is wanted first
 * comes first. A command loads what it needs and nothing of the others: an engine, a server and
 * libraries of the machine cost far more than verifying does.
 */
const LOADERS: Readonly<Record<string, () => Promise<readonly CliCommand[]>>> = {
  serve: async () => [(await import('./serve.ts')).SERVE],
  chat: async () => [(await import('./chat.ts')).CHAT],
  top: async () => [(await import('./top.ts')).TOP],
  verify: async () => [(await import('./verify.ts')).VERIFY],
  connect: async () => [(await import('./connect.ts')).CONNECT],
  doctor: async () => [(await import('./doctor.ts')).DOCTOR],
  plan: async () => (await import('./plan.ts')).PLAN_COMMANDS,
  probe: async () => [(await import('./probe.ts')).PROBE],
  fabric: async () => (await import('./fabric.ts')).FABRIC,
  control: async () => (await import('./control.ts')).CONTROL,
  agent: async () => [(await import('./agent.ts')).AGENT],
  gateway: async () => (await import('./gateway.ts')).GATEWAY,
  witness: async () => [(await import('./witness.ts')).WITNESS],
  load: async () => [(await import('./load.ts')).LOAD],
  seal: async () => [(await import('./seal.ts')).SEAL],
  attest: async () => [(await import('./attest.ts')).ATTEST],
  measure: async () => (await import('./measure.ts')).MEASURE,
  'verify-bundle': async () => [(await import('./verify-bundle.ts')).VERIFY_BUNDLE],
  bench: async () => (await import('./bench.ts')).BENCH,
  selftest: async () => [(await import('./selftest.ts')).SELFTEST],
  version: async () => [(await import('./version.ts')).VERSION],
};

/** The commands that begin with that word; every one where none does, as --help lists them. */
export async function loadCommands(word?: string): Promise<readonly CliCommand[]> {
  if (word !== undefined && Object.hasOwn(LOADERS, word)) return LOADERS[word]!();
  return (await Promise.all(Object.values(LOADERS).map((load) => load()))).flat();
}
