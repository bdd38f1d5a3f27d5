import type { Policy, TokenKeys, VerifyResult } from '@bridgekeeper/attest';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import {
  digest,
  flag,
  integer,
  oneOf,
  onOff,
  optionalArgument,
  repeated,
  text,
  time,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { VerifyOutput } from '../verify/document-schema.ts';
import type { FabricLogGiven } from '../verify/fabric-log.ts';
import { readVersion } from '../version.ts';
import { choosePolicy } from './choose-policy.ts';
import type { CliCommand, ExitCode, Failure } from './command.ts';

/** The key that a server asks for. Not that of `serve`: who verifies is somebody else. */
export const API_KEY_VARIABLE = 'BRIDGEKEEPER_VERIFY_API_KEY';

/** SARIF is of version 2.1.0. */
const FORMATS = ['text', 'json', 'sarif'] as const;

const FLAGS = {
  input: optionalArgument(
    repeated(text('input')),
    'a server’s address, files of evidence, folders of them',
  ),
  policy: flag(
    text('name|file'),
    undefined,
    'evidence (for files), service (for addresses), reference, token, or a file',
  ),
  printPolicy: flag(onOff(), false, 'print the policy that would be used, as a file to start from'),
  nonce: flag(digest(), undefined, 'the 32 bytes that the evidence must carry'),
  reportData: flag(
    digest(64),
    undefined,
    'the 64 bytes of report data that the CPU’s evidence must carry',
  ),
  tokenKeys: flag(
    text('file'),
    undefined,
    'keys (JWKS) of the service that signed a token, from where you trust; else it is asked',
  ),
  at: flag(time(), undefined, 'judge validity as of this time, such as 2026-09-01T12:00Z'),
  offline: flag(onOff(), false, 'ask no vendor’s service: all comes from files'),
  rimFolder: flag(text('folder'), undefined, 'look here for reference measurements first'),
  collateral: flag(
    text('file'),
    undefined,
    'what Intel says of the platform: as if it were given too',
  ),
  pin: flag(text('file'), undefined, 'write the policy that expects the machine shown here'),
  eat: flag(text('file'), undefined, 'write the result here as a signed EAT'),
  eatKey: flag(text('file'), undefined, 'the key that signs it: ECDSA P-384, PKCS #8 PEM'),
  fabricLog: flag(text('folder|url'), undefined, 'the log of the host’s fabric, to be compared'),
  fabricLogKey: flag(text('vkey'), undefined, 'the key of that log, name+id+key'),
  fabricWitnessKey: flag(repeated(text('vkey')), undefined, 'of a witness; may be repeated'),
  fabricWitnessMin: flag(integer(0, 64), undefined, 'how many must have seen it; default: all'),
  fabricEarlier: flag(
    repeated(text('file')),
    undefined,
    'a checkpoint of it, or a proof of an entry, that you kept; may be repeated',
  ),
  fabricOpenings: flag(text('file'), undefined, 'what opens your commitments in it, a JSON list'),
  fabricQuote: flag(
    repeated(text('file')),
    undefined,
    'the quote of the VM that its key is in; may be repeated',
  ),
  fabricPolicy: flag(text('file'), undefined, 'with --fabric-quote: what that VM must measure'),
  printSchema: flag(onOff(), false, 'print the JSON schema of what --json prints'),
  format: flag(oneOf(...FORMATS), 'text', 'how the result is printed; sarif: for CI'),
  json: flag(onOff(), false, 'as one JSON document, also where there is no result'),
};

type Flags = Values<typeof FLAGS>;

export const VERIFY: CliCommand<typeof FLAGS> = {
  name: 'verify',
  summary: 'verify a server, or evidence of a machine, without trusting its operator',
  flags: FLAGS,
  notes: `A server’s key is read from ${API_KEY_VARIABLE}.`,
  run: ({ values }, io) => verify(values, io),
  failed,
};

/**
 * Resolves to the exit code: 0 verified, 1 refused, 2 if something that was given could not be
 * read. Throws UsageError and VerifyError.
 */
async function verify(flags: Flags, io: CliIo): Promise<ExitCode> {
  const { input: inputs = [], nonce, reportData } = flags;
  if (flags.json && flags.format === 'sarif') {
    throw new UsageError('bad-combination', '--json and --format sarif: one document, give one');
  }
  if (flags.printSchema) {
    const { verifyJsonSchema } = await import('../verify/document-schema.ts');
    io.out(JSON.stringify(verifyJsonSchema(), null, 2));
    return 0;
  }
  // Loaded when they are needed: other commands have no use for certificates and XML.
  const { isAddress, runVerify } = await import('../verify/run.ts');
  const policyName = flags.policy ?? (inputs.some(isAddress) ? 'service' : 'evidence');
  const policy = await choosePolicy(policyName, io);
  if (flags.printPolicy) {
    io.out(JSON.stringify(policy, null, 2));
    return 0;
  }
  if (inputs.length === 0) throw new UsageError('bad-value', 'verify: name an address or a file');
  const sign = await prepareToken(flags, io);
  const tokenKeys = await readKeys(flags, io);
  const fabricLog = await fabricLogOf(flags, io);
  const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
  const startedNs = io.nowNs();
  const result = await runVerify({
    inputs: flags.collateral === undefined ? inputs : [...inputs, flags.collateral],
    policy,
    atMs: flags.at ?? startedAt.getTime(),
    nonce: nonce === undefined ? null : bytesOf(nonce),
    ...(reportData !== undefined && { reportData: bytesOf(reportData) }),
    isOffline: flags.offline,
    rimFolder: flags.rimFolder,
    tokenKeys,
    apiKey: io.environment[API_KEY_VARIABLE] || undefined,
    environment: io.environment,
    ...(fabricLog && { fabricLog }),
  });
  const elapsedMs = (io.nowNs() - startedNs) / 1e6;
  await sign?.(result, startedAt);
  if (flags.pin !== undefined) await pin(policy, result, flags.pin, io);
  await print(result, elapsedMs, startedAt, flags, io);
  if (result.unreadable.length > 0) return 2;
  return result.verdict.result === 'verified' ? 0 : 1;
}

/** Undefined: none was given. Throws UsageError. */
async function fabricLogOf(flags: Flags, io: CliIo): Promise<FabricLogGiven | undefined> {
  const { fabricLog: place, fabricLogKey: vkey, fabricQuote: quote, fabricPolicy } = flags;
  if (place === undefined) {
    const idle = Object.entries(flags).find(
      ([name, value]) => name.startsWith('fabric') && value !== undefined,
    );
    if (idle === undefined) return undefined;
    throw new UsageError('bad-combination', '--fabric-log: the other flags are about one');
  }
  const { readerTrust } = await import('./fabric-trust.ts');
  const trust = await readerTrust(
    { logKey: vkey, witnessKey: flags.fabricWitnessKey, witnessMin: flags.fabricWitnessMin },
    { logKey: '--fabric-log-key', witnessKey: '--fabric-witness-key' },
  );
  if ((quote === undefined) !== (fabricPolicy === undefined)) {
    const advice = 'any program can be measured, so say which one it must be';
    throw new UsageError('bad-combination', `--fabric-quote and --fabric-policy: ${advice}`);
  }
  const policy = fabricPolicy === undefined ? null : await choosePolicy(fabricPolicy, io);
  if (policy !== null && !namesProgram(policy)) {
    const advice = 'it must require cpu.launch or cpu.measurements of the VM, as a pin does';
    throw new UsageError('bad-value', `--fabric-policy: ${advice}`);
  }
  const read = (name: string, path: string) => {
    try {
      return io.readFile(path);
    } catch (cause) {
      const message = `${name}: ${path} cannot be read: ${(cause as Error).message}`;
      throw new UsageError('bad-file', message, { cause });
    }
  };
  return {
    place,
    trust,
    vkey: vkey!,
    earlier: (flags.fabricEarlier ?? []).map((path) => read('--fabric-earlier', path)),
    openings:
      flags.fabricOpenings === undefined ? null : read('--fabric-openings', flags.fabricOpenings),
    quote: policy === null ? null : { paths: quote!, policy },
  };
}

/** Whether a policy says which program a VM is to have measured. */
function namesProgram({ require: { cpu = {} } }: Policy): boolean {
  const says = (kind: string) =>
    (cpu[kind]?.oneOf?.length ?? 0) + (cpu[kind]?.includes?.length ?? 0) > 0;
  return says('cpu.launch') || says('cpu.measurements');
}

/** Throws UsageError for a file that holds no keys. */
async function readKeys({ tokenKeys: path }: Flags, io: CliIo): Promise<TokenKeys | null> {
  if (path === undefined) return null;
  const { AttestError, readTokenKeys } = await import('@bridgekeeper/attest');
  try {
    return readTokenKeys(new TextEncoder().encode(io.readFile(path)));
  } catch (error) {
    const reason = error instanceof AttestError ? error.message : String(error);
    throw new UsageError('bad-file', `--token-keys: ${reason}`, { cause: error });
  }
}

const bytesOf = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'));

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
      write('--eat', eat, `${token}\n`, io);
    };
  } catch (error) {
    const reason = error instanceof AttestError ? error.message : String(error);
    throw new UsageError('bad-file', `--eat-key: ${reason}`, { cause: error });
  }
}

/** For first use, or after the values were compared with those of the software's maker. */
export async function pin(policy: Policy, result: VerifyResult, path: string, io: CliIo) {
  const { claims, unreadable } = result;
  if (unreadable.length > 0) {
    const lost = unreadable.map(({ name }) => name).join(', ');
    io.err(`bridgekeeper: --pin: ${lost} cannot be read and would be missed, nothing is written`);
    return;
  }
  const { decide, pinPolicy } = await import('@bridgekeeper/attest');
  const pinned = pinPolicy(policy, claims);
  if (pinned === null) {
    io.err('bridgekeeper: --pin: too little is proven, so nothing is written');
    return;
  }
  write('--pin', path, `${JSON.stringify(pinned, null, 2)}\n`, io);
  const [reason] = decide(claims, pinned).verdict.reasons;
  if (reason === undefined) return;
  const what = `${reason.subject}: ${reason.kind}: ${reason.text}`;
  io.err(`bridgekeeper: --pin: what was shown is refused under ${path} as well: ${what}`);
}

/** Throws UsageError. */
function write(flag: string, path: string, text: string, io: CliIo): void {
  try {
    io.writeFile(path, text);
  } catch (cause) {
    throw new UsageError('bad-file', `${flag}: ${path} cannot be written: ${cause}`, { cause });
  }
}

async function print(
  result: VerifyResult,
  elapsedMs: number,
  startedAt: Date,
  flags: Flags,
  io: CliIo,
): Promise<void> {
  const { resultLines, sarifLog, verifyDocument } = await import('@bridgekeeper/attest');
  if (flags.format === 'sarif') {
    const { version } = readVersion();
    io.out(JSON.stringify(sarifLog(result, { version, inputs: flags.input ?? [] }), null, 1));
  } else if (flags.json || flags.format === 'json') {
    const document: VerifyOutput = {
      ...(await frameOf(`bridgekeeper verify ${result.input}`, startedAt)),
      ...verifyDocument(result, elapsedMs),
    };
    io.out(JSON.stringify(document, null, 1));
  } else {
    const colour = io.isTerminal && io.environment.NO_COLOR === undefined;
    io.out(resultLines(result, colour).join('\n'));
  }
}

async function frameOf(command: string, startedAt: Date) {
  const { resultDocument } = await import('@bridgekeeper/report');
  const none = { name: 'none', driver: null };
  const { version } = readVersion();
  return {
    ...resultDocument('verify', { version, command, startedAt }, none, []),
    suite: 'verify' as const,
  };
}

/** The one document that a program waits for, where there is no result. */
async function failed(failure: Failure, args: readonly string[], io: CliIo): Promise<void> {
  const format = formatOf(args);
  if (format === 'json') {
    const { name, code, message } = failure;
    const startedAt = new Date(HOST_CLOCK.unixSeconds() * 1000);
    const document: VerifyOutput = {
      ...(await frameOf('bridgekeeper verify', startedAt)),
      runs: [],
      error: { name, code, message },
    };
    io.out(JSON.stringify(document, null, 1));
  } else if (format === 'sarif') {
    const { sarifFailureLog } = await import('@bridgekeeper/attest');
    const { version } = readVersion();
    io.out(JSON.stringify(sarifFailureLog(failure, { version, inputs: [] }), null, 1));
  }
}

/** As far as a command line says it that may not be one. */
function formatOf(args: readonly string[]): string {
  if (args.includes('--json')) return 'json';
  const at = args.findLastIndex((arg) => /^--format(=|$)/.test(arg));
  return at === -1 ? 'text' : (args[at]!.split('=')[1] ?? args[at + 1] ?? 'text');
}
