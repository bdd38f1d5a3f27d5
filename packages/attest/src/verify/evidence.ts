import type { Bytes } from '../core/bytes.ts';
import { type DetachedEat, readDetachedEat } from '../nras/detached-eat.ts';
import { readTokenKeys, type TokenKeys } from '../nras/keys.ts';
import type { DeviceEvidence } from '../nvidia/evidence.ts';
import { type ReceiptLinks, readReceiptLinks } from '../receipts/chain.ts';
import { readSignedReceipt, type SignedReceipt } from '../receipts/receipt.ts';
import { readServerReport, type ServerReport } from '../report/report.ts';
import { Documents, type GivenFile, textOf, within } from './documents.ts';
import { pairByName } from './pair.ts';
import { type CpuEvidence, readCpu } from './read-cpu.ts';
import { readDevices } from './read-devices.ts';
import type { DocumentKind } from './recognise.ts';

/** All that was given, read but not judged. */
export interface Evidence {
  readonly devices: readonly DeviceEvidence[];
  readonly cpu: CpuEvidence | null;
  /** Files of reference measurements. The id is in the name, as the document does not hold it. */
  readonly references: readonly { readonly name: string; readonly bytes: Bytes }[];
  readonly token: DetachedEat | null;
  /** Keys that were given with the evidence: whoever made it can have made them. null: none. */
  readonly tokenKeys: TokenKeys | null;
  readonly server: ServerReport | null;
  readonly receipts: readonly SignedReceipt[];
  readonly receiptLinks: ReceiptLinks | null;
  /** What was set aside, one sentence each. */
  readonly notes: readonly string[];
}

/**
 * Reads whatever was given, and puts together what belongs together. Throws AttestError with a
 * reading code; its message names the file.
 */
export async function readEvidence(files: readonly GivenFile[]): Promise<Evidence> {
  const documents = new Documents(files);
  const report = documents.only('server-report');
  const server = report && (await within(report, () => readServerReport(textOf(report))));
  const alone = [...documents.of('device-report'), ...documents.of('snp-report')];
  const chains = pairByName(alone, documents.of('certificates'));
  const chainOf = (one: (typeof alone)[number]) => chains.get(one) ?? null;
  const token = documents.only('token');
  const keys = documents.only('key-set');
  const links = documents.only('receipt-links');
  const evidence = {
    devices: await readDevices(documents, server, chainOf),
    cpu: await readCpu(documents, server, chainOf),
    references: documents.of('rim'),
    token: token && (await within(token, () => readDetachedEat(token.bytes))),
    tokenKeys: keys && (await within(keys, () => readTokenKeys(keys.bytes))),
    server,
    receipts: documents.of('receipt').map((one) => readSignedReceipt(textOf(one), one.name)),
    receiptLinks: links && readReceiptLinks(textOf(links), links.name),
  };
  const idle = [
    ...documents.of('certificates').filter((one) => ![...chains.values()].includes(one)),
    ...idleKinds(evidence).flatMap((kind) => documents.of(kind)),
  ];
  const idleNotes = idle.map(({ name }) => `${name} was not used: what it is about was not given`);
  return { ...evidence, notes: [...documents.notes, ...idleNotes] };
}

/** Kinds of documents that only say something about others, which are not there. */
function idleKinds({ cpu, token, server, receipts }: Omit<Evidence, 'notes'>): DocumentKind[] {
  const isDstack = cpu?.tee === 'tdx' && cpu.dstack !== null;
  const hasKey = receipts.length > 0 || (server?.statement?.receiptKey ?? null) !== null;
  const idle: readonly (readonly [DocumentKind, boolean])[] = [
    ['quote-collateral', cpu?.tee !== 'tdx'],
    ['app-compose', !isDstack],
    ['gpu-boot-record', !isDstack],
    ['revocation-list', cpu?.tee !== 'sev-snp'],
    ['key-set', token === null],
    ['receipt-links', !hasKey],
  ];
  return idle.filter(([, isIdle]) => isIdle).map(([kind]) => kind);
}
