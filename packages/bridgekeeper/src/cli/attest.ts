import { randomBytes } from 'node:crypto';
import { Machine, type MadeReport, Reporter, readSoftware, UsageError } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';

interface Flags {
  readonly nonce?: string;
  readonly out?: string;
  readonly json?: true;
}

/** Adds `attest` to the program; `setCode` takes its exit code. */
export function addAttestCommand(program: Command, io: CliIo, setCode: (code: number) => void) {
  program
    .command('attest')
    .description('collect the evidence of this machine, for others to verify')
    .option('--nonce <hex>', '32 bytes chosen by the verifier; without, they are drawn here')
    .option('--out <file>', 'write the report there, as `verify` reads it')
    .option('--json', 'print the report')
    .action(async (flags: Flags) => {
      setCode(await attest(flags, io));
    });
}

/** Resolves to the exit code. Throws UsageError. */
async function attest(flags: Flags, io: CliIo): Promise<0> {
  const nonce = flags.nonce?.toLowerCase() ?? randomBytes(32).toString('hex');
  if (!/^[0-9a-f]{64}$/.test(nonce)) {
    throw new UsageError('bad-value', '--nonce: must be 64 hex digits');
  }
  const machine = new Machine({}, HOST_CLOCK);
  const made = await new Reporter(machine).make(
    {
      software: await readSoftware(readVersion()),
      model: null,
      configuration: null,
      tlsSpkiSha256: null,
      receipts: null,
    },
    { nonce, binding: 'statement', issuedAt: HOST_CLOCK.unixSeconds() },
  );
  await machine.close();
  const { document } = made;
  if (flags.out !== undefined) io.writeFile(flags.out, `${JSON.stringify(document, null, 2)}\n`);
  if (flags.json) io.out(JSON.stringify(document));
  else for (const line of describe(made, nonce, flags.out)) io.out(line);
  return 0;
}

function describe({ tee, gpu, notes }: MadeReport, nonce: string, file?: string): string[] {
  return [
    `nonce  ${nonce}`,
    `CPU    ${tee === 'none' ? 'no TEE' : `evidence of ${tee}`}`,
    `GPUs   ${gpu === null ? 'no evidence' : `evidence of ${gpu.length}`}`,
    ...notes.map((note) => `note   ${note}`),
    file === undefined
      ? 'nothing was written: --out <file> keeps the report, --json prints it'
      : `wrote  ${file}: verify it with --nonce ${nonce}`,
  ];
}
