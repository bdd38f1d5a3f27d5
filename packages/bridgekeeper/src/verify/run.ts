import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import {
  AttestError,
  ChainCache,
  type Policy,
  type TrustAnchors,
  type UnreadableFile,
  VENDOR_ROOTS,
  type VerifyRequest,
  type VerifyResult,
  verifyEvidence,
} from '@bridgekeeper/attest';
import { EvidenceFileError, type ReadFiles, readEvidenceFiles } from '@bridgekeeper/attest/node';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { VerifyError } from './errors.ts';
import { type FabricLogGiven, readFabricLog, type VerifyQuote } from './fabric-log.ts';
import { fetchReport } from './fetch-report.ts';
import { openServices, type ServiceOptions } from './services.ts';

export interface VerifyOptions extends ServiceOptions {
  /** At most one address, and paths of files and folders. */
  readonly inputs: readonly string[];
  readonly policy: Policy;
  /** 32 bytes; null: an address is asked with a nonce of our own, files are not held to any. */
  readonly nonce: Uint8Array<ArrayBuffer> | null;
  /** 64 bytes that the CPU's evidence must carry; absent: they are not compared. */
  readonly reportData?: Uint8Array<ArrayBuffer>;
  readonly apiKey: string | undefined;
  /** A log of the host's fabric, to be compared with the evidence. */
  readonly fabricLog?: FabricLogGiven;
  /** Only tests have others than the vendors'. */
  readonly anchors?: TrustAnchors;
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
    anchors: options.anchors ?? VENDOR_ROOTS,
    chains: new ChainCache(),
    nonce,
    ...(options.reportData && { reportData: options.reportData }),
    ...openServices(options),
  };
  const compare = await comparison(options, context);
  const asked = { policy, context, input, ...(compare && { compare }) };
  if (address === undefined) return verify({ ...asked, files, unreadable });
  const { bytes, tlsSpkiSha256 } = await ask(address, nonce!, options.apiKey);
  const report = { name: 'the report', bytes, isNamed: true };
  const result = await verify({
    ...asked,
    files: [report, ...files],
    unreadable,
    context: { ...context, connectionSpkiSha256: tlsSpkiSha256 },
  });
  // The question is about that server: files beside it must not answer it alone.
  const lost = result.unreadable.find(({ name }) => name === report.name);
  if (lost !== undefined) throw new VerifyError('unreadable', lost.message);
  const isOfServer = result.claims.some(({ subject }) => subject === 'SERVER');
  if (isOfServer) return result;
  throw new VerifyError('unreadable', `${address} answers with no report of a server`);
}

/** How the log of the host's fabric is compared with the evidence; undefined: none was given. */
async function comparison(
  { fabricLog, atMs }: VerifyOptions,
  context: VerifyRequest['context'],
): Promise<VerifyRequest['compare']> {
  if (fabricLog === undefined) return undefined;
  const verifyQuote: VerifyQuote = async (paths, policy, reportData) => {
    const { files, unreadable } = await readFiles(paths, false);
    // The key does not change, and neither does what a VM measured: the quote may be old.
    const ofKey = { ...context, nonce: null, reportData };
    const input = 'the quote of the log’s key';
    const { verdict } = await verify({ files, unreadable, policy, context: ofKey, input });
    return verdict.result === 'verified';
  };
  const compare = await readFabricLog(fabricLog, atMs, verifyQuote);
  if (compare !== null) return compare;
  throw new VerifyError('unreadable', 'the openings of the log are no list of openings');
}

/**
 * What can be read of those paths, and what cannot. Throws VerifyError where that is nothing, and
 * no address `isBeside` it, or where all is too much.
 */
async function readFiles(paths: readonly string[], isBeside: boolean): Promise<ReadFiles> {
  const whole = await attemptFiles(paths);
  if (!(whole instanceof VerifyError)) return whole;
  const lost: UnreadableFile[] = [];
  for (const path of paths) {
    const one = await attemptFiles([path]);
    if (!(one instanceof VerifyError)) continue;
    const code = one.code === 'too-large' ? 'too-large' : 'not-available';
    lost.push({ name: path, code, message: one.message });
  }
  const names = new Set(lost.map(({ name }) => name));
  const readable = paths.filter((path) => !names.has(path));
  if (names.size === 0 || (readable.length === 0 && !isBeside)) throw whole;
  const rest = await attemptFiles(readable);
  if (rest instanceof VerifyError) throw rest;
  return { files: rest.files, unreadable: [...lost, ...rest.unreadable] };
}

async function attemptFiles(paths: readonly string[]): Promise<ReadFiles | VerifyError> {
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
