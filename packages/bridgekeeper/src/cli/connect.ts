import type { VerifyResult } from '@bridgekeeper/attest';
import type { Pin } from '@bridgekeeper/client';
import {
  flag,
  integer,
  onOff,
  requiredArgument,
  text,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import { VerifyError } from '../verify/errors.ts';
import { choosePolicy } from './choose-policy.ts';
import type { CliCommand } from './command.ts';
import { stopSignal } from './stop-signal.ts';
import { API_KEY_VARIABLE, pin } from './verify.ts';

const FLAGS = {
  url: requiredArgument(text('url'), 'the server’s address, with or without /v1'),
  policy: flag(text('name|file'), undefined, 'what the server must show (default: service)'),
  pin: flag(text('file'), undefined, 'write the policy that expects the machine shown here'),
  encrypted: flag(
    onOff(),
    false,
    'encrypt to a key that the server proves: for gateways, which end TLS',
  ),
  port: flag(integer(0, 65535), 8001, 'where to listen, on 127.0.0.1; 0: a free port'),
  reportSecondsMax: flag(
    integer(1, 7 * 86_400),
    3600,
    'a report that is older is replaced before the next request',
  ),
  offline: flag(onOff(), false, 'ask no vendor’s service: all comes from files'),
  rimFolder: flag(text('folder'), undefined, 'look here for reference measurements first'),
  collateral: flag(text('file'), undefined, 'what Intel says of the platform'),
  json: flag(onOff(), false, 'as JSON documents, one a line'),
};

type Flags = Values<typeof FLAGS>;

export const CONNECT: CliCommand<typeof FLAGS> = {
  name: 'connect',
  summary: 'verify a server, then pass OpenAI requests on to it and to nothing else',
  flags: FLAGS,
  notes: `A server’s key is read from ${API_KEY_VARIABLE}; it is proven for the report, not sent.`,
  run: ({ values }, io) => connect(values, io),
};

/** Resolves to the exit code: 0 stopped, 1 refused. Throws UsageError and VerifyError. */
async function connect(flags: Flags, io: CliIo): Promise<0 | 1> {
  const { openConnection } = await import('../connect/run.ts');
  const { ClientError } = await import('@bridgekeeper/client');
  const policy = await choosePolicy(flags.policy ?? 'service', io);
  const stop = stopSignal(io);
  let isFirst = true;
  try {
    const connection = await openConnection({
      ...flags,
      policy,
      isEncrypted: flags.encrypted,
      isOffline: flags.offline,
      files: flags.collateral === undefined ? [] : [flags.collateral],
      apiKey: io.environment[API_KEY_VARIABLE] || undefined,
      environment: io.environment,
      onVerification: (outcome) => {
        if (isFirst) isFirst = false;
        else io.err(`bridgekeeper: ${again(outcome)}`);
      },
    });
    const { verified, proxy } = connection;
    if (flags.pin !== undefined) await pin(policy, verified.report, flags.pin, io);
    await announce(flags, io, verified.report, { pin: verified.pin, url: `${proxy.url}/v1` });
    await aborted(stop);
    await connection.close();
    return 0;
  } catch (error) {
    if (!(error instanceof ClientError)) throw error;
    const { code, message, result } = error;
    if (code !== 'refused' && code !== 'nothing-to-pin') {
      throw new VerifyError('unreachable', message, { cause: error });
    }
    if (result === null) io.err(`bridgekeeper: ${message}`);
    else if (flags.pin !== undefined) await pin(policy, result, flags.pin, io);
    if (result !== null) await announce(flags, io, result, null);
    return 1;
  }
}

function again(outcome: { readonly pin: Pin } | Error): string {
  if (outcome instanceof Error)
    return `not verified again, nothing is passed on: ${outcome.message}`;
  return `verified again, ${describe(outcome.pin)}`;
}

const describe = ({ kind, sha256 }: Pin): string => `pinned ${kind.toUpperCase()} key ${sha256}`;

/** What verification said, and what follows from it; null: nothing does. */
async function announce(
  flags: Flags,
  io: CliIo,
  result: VerifyResult,
  open: { readonly pin: Pin; readonly url: string } | null,
): Promise<void> {
  const { resultLines, verifyDocument } = await import('@bridgekeeper/attest');
  if (flags.json) {
    const { verdict, claims, notes } = verifyDocument(result, 0);
    io.out(
      JSON.stringify({ url: open?.url ?? null, pin: open?.pin ?? null, verdict, claims, notes }),
    );
    return;
  }
  const colour = io.isTerminal && io.environment.NO_COLOR === undefined;
  io.out(resultLines(result, colour).join('\n'));
  if (open === null) return;
  io.out(describe(open.pin));
  io.out(`OpenAI clients of this machine: OPENAI_BASE_URL=${open.url}`);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
