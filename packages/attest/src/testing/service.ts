import { type Bytes, fromHex, utf8 } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { sha256Hex } from '../core/digest.ts';
import type { TrustAnchors } from '../core/trust.ts';
import { readEvidenceList } from '../nvidia/evidence.ts';
import type { MachineObservation } from '../report/observation.ts';
import type { ReportStatement } from '../report/statement.ts';
import { reportDocument } from '../report/write.ts';
import { makeDeviceAuthority } from './device-authority.ts';
import { makeBoard, makeBoardReports } from './device-board.ts';
import { makeEvidenceItem } from './device-reports.ts';
import { makeIntelAuthority, makeTdxCollateral, QUOTE_NOW_MS } from './quote-authority.ts';
import { makeTdxQuote, type QuoteChanges } from './quote-report.ts';
import { makeReceiptChain, makeReceiptSigner } from './receipts.ts';
import { makeReportParts, makeStatement } from './reports.ts';
import { makeRim, makeRimAuthority } from './rim-authority.ts';

/** What a made-up service's evidence differs in from a good one. */
export interface ServiceChanges {
  readonly statement?: Partial<ReportStatement>;
  readonly quote?: QuoteChanges;
  /** 64 hexadecimal digits: what the GPUs were asked with, if not with the service's nonce. */
  readonly gpuNonce?: string;
  /** How many of the board's eight GPUs, and of its four switches, are shown; all, if left out. */
  readonly shown?: { readonly gpus: number; readonly switches: number };
  /** What the server runs with, if not with a GPU. */
  readonly configuration?: Readonly<Record<string, unknown>>;
}

/** What the driver of that board tells, as it is. */
const OBSERVED: MachineObservation = {
  driverVersion: null,
  confidential: {
    environment: 'production',
    isOn: true,
    isDevTools: false,
    multiGpuMode: 'protected-pcie',
  },
  areGpusReady: true,
  keyRotationThreshold: null,
  gpus: Array.from({ length: 8 }, (_, index) => ({ index, name: null, uuid: null, fabric: null })),
  gaps: [],
};

/** A service with a TDX quote and an HGX board, under vendors of our own. */
export interface TestService {
  readonly nonce: Bytes;
  /** Everything of it is valid at this moment. */
  readonly nowMs: number;
  readonly anchors: TrustAnchors;
  /** By name: `report.json`, `collateral.json`, RIMs, receipts, `links.json`. */
  readonly files: ReadonlyMap<string, Bytes>;
}

/** Makes keys, chains, reports, references, a quote over all of it, and two receipts. */
export async function makeService(changes: ServiceChanges = {}): Promise<TestService> {
  const statement = changes.statement ?? {};
  const nonceHex = statement.nonce ?? 'ab'.repeat(32);
  const board = await makeBoardEvidence(changes.gpuNonce ?? nonceHex, changes.shown);
  const configuration = changes.configuration ?? { device: 'cuda' };
  const intel = await makeIntelAuthority();
  const signer = await makeReceiptSigner();
  const { receipts, links, head } = await makeReceiptChain(signer, 2);
  const { prepared, evidence } = await makeReportParts(
    await makeStatement(signer, {
      gpuEvidenceSha256: board.payload && (await sha256Hex(utf8(board.payload))),
      configurationSha256: await sha256Hex(canonicalBytes(configuration)),
      receiptChain: head,
      observed: OBSERVED,
      ...statement,
    }),
    'statement',
    signer,
    { configuration },
  );
  const { reportData } = prepared;
  const tdxQuote = await makeTdxQuote(intel, { reportData, ...changes.quote });
  const nvidiaPayload = board.payload;
  const json = (value: unknown) => utf8(JSON.stringify(value));
  const files = new Map<string, Bytes>([
    ['report.json', json(reportDocument(prepared, { ...evidence, tdxQuote, nvidiaPayload }))],
    ['collateral.json', utf8(await makeTdxCollateral(intel))],
    ...board.references,
    ...receipts.map((one, i): [string, Bytes] => [`receipt-${i + 1}.json`, json(one)]),
    ['links.json', json(links)],
  ]);
  const anchors = {
    ...board.anchors,
    intelSgx: new Set([intel.rootSha256]),
    amdArk: new Set<string>(),
  };
  return { nonce: fromHex(nonceHex, 'the nonce'), nowMs: QUOTE_NOW_MS, anchors, files };
}

async function makeBoardEvidence(
  nonceHex: string,
  shown: ServiceChanges['shown'] = { gpus: 8, switches: 4 },
) {
  const authority = await makeDeviceAuthority();
  const board = await makeBoard(authority, 1);
  const reports = await makeBoardReports(board, fromHex(nonceHex, 'the nonce'));
  const items = [
    ...reports.filter(({ device }) => device.arch !== 'ls10').slice(0, shown.gpus),
    ...reports.filter(({ device }) => device.arch === 'ls10').slice(0, shown.switches),
  ].map(({ device, report }) => makeEvidenceItem(device, report));
  const signer = await makeRimAuthority();
  const payload =
    items.length === 0
      ? null
      : JSON.stringify({ nonce: nonceHex, arch: 'HOPPER', evidence_list: items });
  return {
    payload,
    references: await makeReferences(payload, signer),
    anchors: {
      nvidiaDevice: authority.rootSha256,
      nvidiaRim: new Set([signer.rootSha256]),
    },
  };
}

type RimSigner = Awaited<ReturnType<typeof makeRimAuthority>>;

/** A driver, a VBIOS and a BIOS reference for what the devices of the payload measured. */
async function makeReferences(
  payload: string | null,
  signer: RimSigner,
): Promise<[string, Bytes][]> {
  const references = new Map<string, Promise<Bytes>>();
  for (const { report } of payload === null ? [] : await readEvidenceList(payload)) {
    const { rimIds, driverVersion, vbiosVersion, measurements } = report;
    const golden = (from: number) =>
      [from, from + 1].map((index) => ({ index, alternatives: [measurements.get(index)!] }));
    const [driver] = rimIds.driver;
    const add = (id: string, version: string, from: number) => {
      if (references.has(id)) return;
      references.set(id, makeRim(signer, { version, measurements: golden(from) }));
    };
    if (driver !== undefined) add(driver, driverVersion!, 2);
    if (rimIds.vbios !== null) add(rimIds.vbios, vbiosVersion!, 10);
  }
  const entries = [...references].map(async ([id, bytes]): Promise<[string, Bytes]> => {
    return [`${id}.xml`, await bytes];
  });
  return Promise.all(entries);
}
