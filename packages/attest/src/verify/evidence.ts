import type { Bytes } from '../core/bytes.ts';
import { TAG } from '../core/der.ts';
import { AttestError, demand, type UnreadableFile } from '../core/errors.ts';
import { type DetachedEat, readDetachedEat } from '../nras/detached-eat.ts';
import { readTokenKeys, type TokenKeys } from '../nras/keys.ts';
import type { DeviceEvidence } from '../nvidia/evidence.ts';
import { type ReceiptLinks, readReceiptLinks } from '../receipts/chain.ts';
import { readSignedReceipt, type SignedReceipt } from '../receipts/receipt.ts';
import { readServerReport, type ServerReport } from '../report/report.ts';
import { readOcspResponse } from '../revocation/ocsp-response.ts';
import { readCorim } from '../rim/corim.ts';
import { Documents, type GivenFile, textOf } from './documents.ts';
import { pairByName } from './pair.ts';
import { type CpuEvidence, readCpu } from './read-cpu.ts';
import { readDevices } from './read-devices.ts';
import type { DocumentKind, Recognised } from './recognise.ts';

/** All that was given, read but not judged. */
export interface Evidence {
  readonly devices: readonly DeviceEvidence[];
  /** How many of them are GPUs that the server's own report shows. */
  readonly gpusOfServer: number;
  readonly cpu: CpuEvidence | null;
  /** Files of reference measurements. The id is in the name, as the document does not hold it. */
  readonly references: readonly { readonly name: string; readonly bytes: Bytes }[];
  /** What OCSP responders said, in DER. */
  readonly ocspAnswers: readonly Bytes[];
  readonly token: DetachedEat | null;
  /** Keys that were given with the evidence: whoever made it can have made them. null: none. */
  readonly tokenKeys: TokenKeys | null;
  readonly server: ServerReport | null;
  readonly receipts: readonly SignedReceipt[];
  readonly receiptLinks: ReceiptLinks | null;
  /** What could not be read, while something else could. */
  readonly unreadable: readonly UnreadableFile[];
  /** What was set aside, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * Reads whatever was given, and puts together what belongs together. A file that cannot be read is
 * left out and reported, as are those that were `lost` before. Throws AttestError with a reading
 * code where nothing could be read, and for what does not fit together; its message names the file.
 */
export async function readEvidence(
  files: readonly GivenFile[],
  lost: readonly UnreadableFile[] = [],
): Promise<Evidence> {
  const documents = new Documents(files, lost);
  const server = await documents.readOnly('server-report', (one) => readServerReport(textOf(one)));
  const pem = documents.of('certificates').filter(({ bytes }) => bytes[0] !== TAG.sequence);
  const chains = pairByName(documents.of('device-report'), pem);
  const chainOf = (report: Recognised) => chains.get(report) ?? null;
  const receipts: SignedReceipt[] = [];
  for (const one of documents.of('receipt')) {
    const receipt = await documents.read(one, () => readSignedReceipt(textOf(one), one.name));
    if (receipt !== null) receipts.push(receipt);
  }
  const answers = await readOcspAnswers(documents);
  for (const one of documents.of('corim')) await documents.read(one, () => refuseCorim(one));
  const { devices, ofServer } = await readDevices(documents, server, chainOf);
  const read = {
    devices,
    cpu: await readCpu(documents, server),
    references: documents.of('rim'),
    ocspAnswers: answers.map(({ bytes }) => bytes),
    token: await documents.readOnly('token', ({ bytes }) => readDetachedEat(bytes)),
    tokenKeys: await documents.readOnly('key-set', ({ bytes }) => readTokenKeys(bytes)),
    server,
    receipts,
    receiptLinks: await documents.readOnly('receipt-links', (one) =>
      readReceiptLinks(textOf(one), one.name),
    ),
  };
  const { unreadable } = documents;
  const { ocspAnswers: _, ...evidence } = read;
  const isAny = Object.values(evidence).some((part) => part !== null && Object(part).length !== 0);
  const [failed] = unreadable;
  if (!isAny && failed !== undefined) throw new AttestError(failed.code, failed.message);
  const paired = [...chains.values()];
  const idle = idleKinds(read)
    .flatMap((kind) => documents.of(kind))
    .filter((one) => !paired.includes(one));
  demand(isAny || idle.length > 0, 'malformed', 'there is no evidence among what was given');
  const isRead = ({ name }: Recognised) => !unreadable.some((one) => one.name === name);
  const idleNotes = idle
    .filter(isRead)
    .map(({ name }) => `${name} was not used: what it is about was not given`);
  const said = answers.map(({ note }) => note);
  const gpusOfServer = ofServer.filter(({ report }) => report.kind === 'gpu').length;
  return { ...read, gpusOfServer, unreadable, notes: [...documents.notes, ...said, ...idleNotes] };
}

/** Named, so that nobody takes it for compared. */
function refuseCorim({ bytes }: Recognised): never {
  const { id, isSigned, comids, referenceValues } = readCorim(bytes);
  const signed = isSigned ? 'signed' : 'unsigned';
  const holds = `${comids} CoMIDs with ${referenceValues} reference values`;
  const message = `the ${signed} CoRIM ${id} holds ${holds}, which are not compared here`;
  throw new AttestError('unsupported-version', message);
}

/** Each with what a reader is to know of it. */
async function readOcspAnswers(documents: Documents) {
  const answers: { readonly bytes: Bytes; readonly note: string }[] = [];
  for (const one of documents.of('ocsp-answer')) {
    const response = await documents.read(one, () => readOcspResponse(one.bytes));
    if (response === null) continue;
    const times = response.answers.map(({ thisUpdateMs }) => thisUpdateMs);
    const from = new Date(Math.min(...times)).toISOString();
    const note = `${one.name} says who was revoked as of ${from}, and answers no nonce of ours`;
    answers.push({ bytes: one.bytes, note });
  }
  return answers;
}

/** Kinds of documents that only say something about others, which are not there. */
function idleKinds({
  devices,
  cpu,
  references,
  token,
  server,
  receipts,
}: Omit<Evidence, 'gpusOfServer' | 'notes' | 'unreadable'>): DocumentKind[] {
  const isDstack = (cpu?.dstack ?? null) !== null;
  const hasKey = receipts.length > 0 || (server?.statement?.receiptKey ?? null) !== null;
  const idle: readonly (readonly [DocumentKind, boolean])[] = [
    ['quote-collateral', cpu?.tee !== 'tdx'],
    ['boot-log', cpu?.tee !== 'tdx'],
    ['app-compose', !isDstack],
    ['gpu-boot-record', !isDstack],
    ['certificates', cpu?.tee !== 'sev-snp'],
    ['snp-certificates', cpu?.tee !== 'sev-snp'],
    ['revocation-list', cpu?.tee !== 'sev-snp'],
    ['key-set', token === null],
    ['ocsp-answer', devices.length + references.length === 0],
    ['receipt-links', !hasKey],
  ];
  return idle.filter(([, isIdle]) => isIdle).map(([kind]) => kind);
}
