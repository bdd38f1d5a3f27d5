import { mkdir, readFile, rmdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Bytes } from '../../core/bytes.ts';
import { AttestError, demand } from '../../core/errors.ts';
import { type CpuEvidence, REPORT_DATA_BYTES } from './cpu-evidence.ts';

/** The kernel's interface to whatever signs for this guest: Documentation/ABI/configfs-tsm. */
export const TSM_FOLDER = '/sys/kernel/config/tsm/report';

const TEE_OF_PROVIDER = { tdx_guest: 'tdx', sev_guest: 'sev-snp' } as const;
const ATTEMPTS_MAX = 3;
const EVIDENCE_BYTES_MAX = 64 * 1024;

/** What of the file system is used, so that a test can do in a plain folder what a kernel does. */
export interface TsmFiles {
  mkdir(path: string): Promise<unknown>;
  writeFile(path: string, bytes: Uint8Array): Promise<void>;
  readFile(path: string): Promise<Uint8Array>;
  rmdir(path: string): Promise<void>;
}

export interface TsmOptions {
  readonly folder?: string;
  /** Unique among those that are asked for at this moment. */
  readonly entry: string;
  readonly files?: TsmFiles;
}

/**
 * Has the CPU sign `reportData` (64 bytes). Throws AttestError 'not-available': there is no such
 * interface here, it may not be used, it failed, or others kept changing the request.
 */
export async function collectByTsm(reportData: Bytes, options: TsmOptions): Promise<CpuEvidence> {
  demand(reportData.length === REPORT_DATA_BYTES, 'malformed', 'report data has 64 bytes');
  const { folder = TSM_FOLDER, entry, files = { mkdir, writeFile, readFile, rmdir } } = options;
  const request = join(folder, entry);
  await attempt(`cannot make ${request}`, () => files.mkdir(request));
  try {
    return await attempt(`${request} failed`, () => ask(files, request, reportData));
  } finally {
    await files.rmdir(request).catch(() => undefined);
  }
}

async function ask(files: TsmFiles, request: string, reportData: Bytes): Promise<CpuEvidence> {
  const text = async (name: string) =>
    Buffer.from(await files.readFile(join(request, name)))
      .toString('latin1')
      .trim();
  const provider = await text('provider');
  const tee = TEE_OF_PROVIDER[provider as keyof typeof TEE_OF_PROVIDER];
  demand(tee !== undefined, 'not-available', `the provider ${provider.slice(0, 40)} is not known`);
  for (let tries = 0; tries < ATTEMPTS_MAX; tries++) {
    const before = Number(await text('generation'));
    await files.writeFile(join(request, 'inblob'), reportData);
    const evidence = await blob(files, join(request, 'outblob'));
    const certificates = tee === 'sev-snp' ? await blob(files, join(request, 'auxblob')) : null;
    // The kernel counts every write to the request: one more than before means only ours.
    if (Number(await text('generation')) !== before + 1) continue;
    demand(evidence.length > 0, 'not-available', `${provider} gave no evidence`);
    const hasCertificates = certificates !== null && certificates.length > 0;
    return {
      tee,
      evidence,
      certificates: hasCertificates ? certificates : null,
      eventLog: null,
      vmConfig: null,
      info: null,
    };
  }
  throw new AttestError('not-available', `others kept writing to ${request}`);
}

async function blob(files: TsmFiles, path: string): Promise<Bytes> {
  const bytes = new Uint8Array(await files.readFile(path));
  demand(bytes.length <= EVIDENCE_BYTES_MAX, 'too-large', `${path} has ${bytes.length} bytes`);
  return bytes;
}

async function attempt<T>(what: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    if (cause instanceof AttestError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new AttestError('not-available', `${what}: ${code ?? message}`, { cause });
  }
}
