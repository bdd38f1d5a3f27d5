import type { Policy, VerifyResult } from '@bridgekeeper/attest';
import {
  digest,
  flag,
  onOff,
  optionalArgument,
  repeated,
  text,
  time,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';
import type { CliCommand } from './command.ts';

/** The key that a server asks for. Not that of `serve`: who verifies is somebody else. */
export const API_KEY_VARIABLE = 'BRIDGEKEEPER_VERIFY_API_KEY';

const FLAGS = {
  input: optionalArgument(
    repeated(text('input')),
    'a server’s address, files of evidence, folders of them',
  ),
  policy: flag(
    text('name|file'),
    undefined,
    'evidence (for files), service (for addresses), or a file',
  ),
  printPolicy: flag(onOff(), false, 'print the policy that would be used, as a file to start from'),
  nonce: flag(digest(), undefined, 'the 32 bytes that the evidence must carry'),
  at: flag(time(), undefined, 'judge validity as of this time, such as 2026-09-01T12:00Z'),
  offline: flag(onOff(), false, 'ask no vendor’s service: all comes from files'),
  rimFolder: flag(text('folder'), undefined, 'look here for reference measurements first'),
  collateral: flag(
    text('file'),
    undefined,
    'what Intel says of the platform: as if it were given too',
  ),
  pin: flag(text('file'), undefined, 'write the policy that expects the software measured here'),
  eat: flag(text('file'), undefined, 'write the result here as a signed EAT'),
  eatKey: flag(text('file'), undefined, 'the key that signs it: ECDSA P-384, PKCS #8 PEM'),
  json: flag(onOff(), false, 'as one JSON document'),
};

type Flags = Values<typeof FLAGS>;

export const VERIFY: CliCommand<typeof FLAGS> = {
  name: 'verify',
  summary: 'verify a server, or evidence of a machine, without trusting its operator',
  flags: FLAGS,
  notes: `A server’s key is read from ${API_KEY_VARIABLE}.`,
  run: ({ values }, io) => verify(values, io),
};

/** Resolves to the exit code: 0 verified, 1 refused. Throws UsageError and VerifyError. */
async function verify(flags: Flags, io: CliIo): Promise<0 | 1> {
  const { input: inputs = [], nonce } = flags;
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
    atMs: flags.at ?? startedAt.getTime(),
    nonce: nonce === undefined ? null : new Uint8Array(Buffer.from(nonce, 'hex')),
    isOffline: flags.offline,
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
export async function choosePolicy(
  flags: Pick<Flags, 'policy'>,
  isService: boolean,
  io: CliIo,
): Promise<Policy> {
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
export async function pin(policy: Policy, { claims }: VerifyResult, path: string, io: CliIo) {
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
