import { randomBytes } from 'node:crypto';
import {
  digest,
  flag,
  Machine,
  type MadeReport,
  onOff,
  Reporter,
  readSoftware,
  text,
  type Values,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';
import type { CliCommand } from './command.ts';

const FLAGS = {
  nonce: flag(digest(), undefined, '32 bytes chosen by the verifier; without, they are drawn here'),
  out: flag(text('file'), undefined, 'write the report there, as `verify` reads it'),
  json: flag(onOff(), false, 'print the report'),
};

export const ATTEST: CliCommand<typeof FLAGS> = {
  name: 'attest',
  summary: 'collect the evidence of this machine, for others to verify',
  flags: FLAGS,
  run: ({ values }, io) => attest(values, io),
};

/** Resolves to the exit code. */
async function attest(flags: Values<typeof FLAGS>, io: CliIo): Promise<0> {
  const nonce = flags.nonce ?? randomBytes(32).toString('hex');
  const machine = new Machine({}, HOST_CLOCK);
  const made = await new Reporter(machine).make(
    {
      software: await readSoftware(readVersion()),
      model: null,
      configuration: null,
      tlsSpkiSha256: null,
      encryptionKeys: null,
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
