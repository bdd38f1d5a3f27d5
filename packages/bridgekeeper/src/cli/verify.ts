import type { Policy, VerifyResult } from '@bridgekeeper/attest';
import { UsageError } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';

interface Flags {
  readonly policy?: string;
  readonly printPolicy?: true;
  readonly at?: string;
  readonly nonce?: string;
  readonly rimFolder?: string;
  readonly collateral?: string;
  readonly offline?: true;
  readonly pin?: string;
  readonly eat?: string;
  readonly eatKey?: string;
  readonly json?: true;
}

/** The key that a server asks for. Not that of `serve`: who verifies is somebody else. */
const API_KEY_VARIABLE = 'BRIDGEKEEPER_VERIFY_API_KEY';

/** Adds `verify` to the program; `setCode` takes its exit code. */
export function addVerifyCommand(program: Command, io: CliIo, setCode: (code: number) => void) {
  program
    .command('verify')
    .argument('[input...]', 'a server’s address, files of evidence, folders of them')
    .description('verify a server, or evidence of a machine, without trusting its operator')
    .option('--policy <name|file>', 'evidence (for files), service (for addresses), or a file')
    .option('--print-policy', 'print the policy that would be used, as a file to start from')
    .option('--nonce <hex>', 'the 32 bytes that the evidence must carry')
    .option('--at <time>', 'judge validity as of this time, such as 2026-09-01T12:00Z')
    .option('--offline', 'ask no vendor’s service: all comes from files')
    .option('--rim-folder <folder>', 'look here for reference measurements first')
    .option('--collateral <file>', 'what Intel says of the platform: as if it were given too')
    .option('--pin <file>', 'write the policy that expects the software measured here')
    .option('--eat <file>', 'write the result here as a signed EAT')
    .option('--eat-key <file>', 'the key that signs it: ECDSA P-384, PKCS #8 PEM')
    .option('--json', 'as one JSON document')
    .addHelpText('after', `\nA server’s key is read from ${API_KEY_VARIABLE}.`)
    .action(async (inputs: readonly string[], flags: Flags) => {
      setCode(await verify(inputs, flags, io));
    });
}

/** Resolves to the exit code: 0 verified, 1 refused. Throws UsageError and VerifyError. */
async function verify(inputs: readonly string[], flags: Flags, io: CliIo): Promise<0 | 1> {
  // Loaded when they are needed: other commands have no use for certificates and XML.
  const { isAddress, runVerify } = await import('../verify/run.ts');
  const policy = await choosePolicy(flags, inputs.some(isAddress), io);
  if (flags.printPolicy) {
    io.out(JSON.stringify(policy, null, 2));
    return 0;
  }
  if (inputs.length === 0) throw new UsageError('bad-value', 'verify: name an address or a file');
  const sign = await prepareToken(flags, io);
  const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
  const startedNs = io.nowNs();
  const result = await runVerify({
    inputs: flags.collateral === undefined ? inputs : [...inputs, flags.collateral],
    policy,
    atMs: timeOf(flags.at) ?? startedAt.getTime(),
    nonce: nonceOf(flags.nonce),
    isOffline: flags.offline === true,
    rimFolder: flags.rimFolder,
    apiKey: io.environment[API_KEY_VARIABLE] || undefined,
    environment: io.environment,
  });
  const elapsedMs = (io.nowNs() - startedNs) / 1e6;
  await sign?.(result, startedAt);
  if (flags.pin !== undefined) await pin(policy, result, flags.pin, io);
  await print(result, elapsedMs, startedAt, flags, io);
  return result.verdict.result === 'verified' ? 0 : 1;
}

/** Throws UsageError for a file that is no policy. */
async function choosePolicy(flags: Flags, isService: boolean, io: CliIo): Promise<Policy> {
  const { AttestError, BUILT_IN_POLICIES, readPolicy } = await import('@bridgekeeper/attest');
  const name = flags.policy ?? (isService ? 'service' : 'evidence');
  const builtIn = BUILT_IN_POLICIES.get(name);
  if (builtIn !== undefined) return builtIn;
  try {
    return readPolicy(io.readFile(name), name);
  } catch (error) {
    const isRead = error instanceof AttestError;
    const reason = isRead ? error.message : `${name} is no name of a policy and no file: ${error}`;
    throw new UsageError('bad-file', `--policy: ${reason}`, { cause: error });
  }
}

const TIME = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d{1,3})?)?(Z|[+-]\d\d:\d\d))?$/;

function timeOf(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = TIME.test(text) ? Date.parse(text) : Number.NaN;
  if (!Number.isNaN(ms)) return ms;
  const wanted = 'must be a time such as 2026-09-01T12:00Z, with its zone';
  throw new UsageError('bad-value', `--at: ${wanted}, got ${text.slice(0, 80)}`);
}

function nonceOf(text: string | undefined): Uint8Array<ArrayBuffer> | null {
  if (text === undefined) return null;
  if (/^[0-9a-f]{64}$/i.test(text)) return new Uint8Array(Buffer.from(text, 'hex'));
  throw new UsageError('bad-value', '--nonce: must be 32 bytes in hexadecimal');
}

/** Reads the key before anything is asked of anybody. Throws UsageError. */
async function prepareToken({ eat, eatKey }: Flags, io: CliIo) {
  if (eat === undefined && eatKey === undefined) return undefined;
  if (eat === undefined || eatKey === undefined) {
    throw new UsageError('bad-combination', '--eat and --eat-key: give both');
  }
  const { AttestError, readSigningKey, signResult } = await import('@bridgekeeper/attest');
  try {
    const key = await readSigningKey(io.readFile(eatKey));
    return async (result: VerifyResult, issuedAt: Date) => {
      const build = `bridgekeeper ${readVersion().version}`;
      const token = await signResult(result, key, { build, issuedAtMs: issuedAt.getTime() });
      io.writeFile(eat, `${token}\n`);
    };
  } catch (error) {
    const reason = error instanceof AttestError ? error.message : String(error);
    throw new UsageError('bad-file', `--eat-key: ${reason}`, { cause: error });
  }
}

/** For first use, or after the values were compared with those of the software's maker. */
async function pin(policy: Policy, { claims }: VerifyResult, path: string, io: CliIo) {
  const { pinSoftware } = await import('@bridgekeeper/attest');
  const pinned = pinSoftware(policy, claims);
  if (pinned === null) io.err('bridgekeeper: --pin: no software is proven, so nothing is written');
  else io.writeFile(path, `${JSON.stringify(pinned, null, 2)}\n`);
}

async function print(
  result: VerifyResult,
  elapsedMs: number,
  startedAt: Date,
  flags: Flags,
  io: CliIo,
): Promise<void> {
  const { resultLines, verifyDocument } = await import('@bridgekeeper/attest');
  if (!flags.json) {
    const colour = io.isTerminal && io.environment.NO_COLOR === undefined;
    io.out(resultLines(result, colour).join('\n'));
    return;
  }
  const { resultDocument } = await import('@bridgekeeper/report');
  const { version } = readVersion();
  const command = `bridgekeeper verify ${result.input}`;
  const none = { name: 'none', driver: null };
  const frame = resultDocument('verify', { version, command, startedAt }, none, []);
  io.out(JSON.stringify({ ...frame, ...verifyDocument(result, elapsedMs) }, null, 1));
}
