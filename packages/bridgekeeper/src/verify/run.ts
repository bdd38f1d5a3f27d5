import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import {
  AttestError,
  ChainCache,
  type GivenFile,
  type Policy,
  type UnreadableInput,
  VENDOR_ROOTS,
  type VerifyRequest,
  type VerifyResult,
  verifyEvidence,
  withUnreadable,
} from '@bridgekeeper/attest';
import { EvidenceFileError, readEvidenceFiles } from '@bridgekeeper/attest/node';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { VerifyError } from './errors.ts';
import { fetchReport } from './fetch-report.ts';
import { openServices, type ServiceOptions } from './services.ts';

export interface VerifyOptions extends ServiceOptions {
  /** At most one address, and paths of files and folders. */
  readonly inputs: readonly string[];
  readonly policy: Policy;
  /** 32 bytes; null: an address is asked with a nonce of our own, files are not held to any. */
  readonly nonce: Uint8Array<ArrayBuffer> | null;
  readonly apiKey: string | undefined;
}

/** Seconds that a server has for its report: it may wake GPUs for it. */
const REPORT_SECONDS = 60;
const NONCE_BYTES = 32;

/** Whether it is an address and no path. */
export const isAddress = (input: string) => /^https?:\/\//i.test(input);

/** Reads or fetches what was named, and verifies it. Throws VerifyError. */
export async function runVerify(options: VerifyOptions): Promise<VerifyResult> {
  const { inputs, policy } = options;
  const input = inputs.map((one) => (isAddress(one) ? one : basename(one))).join(' ');
  const addresses = inputs.filter(isAddress);
  const paths = inputs.filter((input) => !isAddress(input));
  if (addresses.length > 1) {
    throw new VerifyError('unreadable', 'one address at a time: each has its own verdict');
  }
  const [address] = addresses;
  const nonce = options.nonce ?? (address === undefined ? null : newNonce());
  const { files, unreadable } = await readFiles(paths, address !== undefined);
  const context = {
    nowMs: options.atMs,
    anchors: VENDOR_ROOTS,
    chains: new ChainCache(),
    nonce,
    ...openServices(options),
  };
  if (address === undefined) {
    return withUnreadable(await verify({ files, policy, context, input }), unreadable);
  }
  const { bytes, tlsSpkiSha256 } = await ask(address, nonce!, options.apiKey);
  const report = { name: 'the report', bytes, isNamed: true };
  const result = await verify({
    files: [report, ...files],
    policy,
    context: { ...context, connectionSpkiSha256: tlsSpkiSha256 },
    input,
  });
  return withUnreadable(result, unreadable);
}

/**
 * What can be read of those paths, and what cannot. Throws VerifyError where that is nothing, and
 * no address `isBeside` it, or where all is too much.
 */
async function readFiles(paths: readonly string[], isBeside: boolean) {
  const whole = await attemptFiles(paths);
  if (!(whole instanceof VerifyError)) return { files: whole, unreadable: [] };
  const unreadable: UnreadableInput[] = [];
  for (const path of paths) {
    const one = await attemptFiles([path]);
    if (!(one instanceof VerifyError)) continue;
    unreadable.push({ name: path, code: one.code, message: one.message });
  }
  const names = new Set(unreadable.map(({ name }) => name));
  const readable = paths.filter((path) => !names.has(path));
  if (names.size === 0 || (readable.length === 0 && !isBeside)) throw whole;
  const files = await attemptFiles(readable);
  if (files instanceof VerifyError) throw files;
  return { files, unreadable };
}

async function attemptFiles(paths: readonly string[]): Promise<GivenFile[] | VerifyError> {
  try {
    return await readEvidenceFiles(paths);
  } catch (cause) {
    if (!(cause instanceof EvidenceFileError)) throw cause;
    return new VerifyError(cause.code, cause.message, { cause });
  }
}

async function verify(request: VerifyRequest): Promise<VerifyResult> {
  try {
    return await verifyEvidence(request);
  } catch (cause) {
    if (!(cause instanceof AttestError)) throw cause;
    throw new VerifyError('unreadable', cause.message, { cause });
  }
}

const newNonce = () => new Uint8Array(randomBytes(NONCE_BYTES));

async function ask(url: string, nonce: Uint8Array, apiKey: string | undefined) {
  const stop = new AbortController();
  const cancel = HOST_CLOCK.after(REPORT_SECONDS, () => stop.abort());
  try {
    const nonceHex = Buffer.from(nonce).toString('hex');
    return await fetchReport({ url, nonceHex, apiKey, signal: stop.signal });
  } finally {
    cancel();
  }
}
