import { createHash, randomUUID } from 'node:crypto';
import type { ReceiptSigner, ReportBinding, ReportStatement, Tee } from '@bridgekeeper/attest';
import { canonicalBytes } from '@bridgekeeper/attest/canonical';
import type { CpuEvidence, GpuEvidenceEntry, Sought } from '@bridgekeeper/attest/node';
import type { Machine } from './machine.ts';
import type { ModelIdentity } from './model-identity.ts';
import type { SoftwareIdentity } from './software.ts';

/** What a report says beside the machine's evidence. */
export interface ReportSubject {
  readonly software: SoftwareIdentity;
  /** null: no model is served. */
  readonly model: ({ readonly name: string } & ModelIdentity) | null;
  readonly configuration: Readonly<Record<string, string | number | boolean | null>> | null;
  /** SHA-256 of the TLS key, in hex; null: TLS does not end here. */
  readonly tlsSpkiSha256: string | null;
  /** That requests can be encrypted to now; null: none. */
  readonly encryptionKeys: (() => Promise<Uint8Array<ArrayBuffer>>) | null;
  /** null: no receipts are given. */
  readonly receipts: {
    /** Of the chain that is written now: a report names its key and its end. */
    readonly signer: () => ReceiptSigner;
    readonly head: (key: string) => Promise<ReportStatement['receiptChain']>;
  } | null;
}

export interface ReportRequest {
  /** 32 bytes in lower-case hex. */
  readonly nonce: string;
  readonly binding: ReportBinding;
  readonly issuedAt: number;
}

/** A report, and what it was made of for those who want the parts. */
export interface MadeReport {
  readonly document: object;
  readonly tee: Tee;
  readonly cpu: CpuEvidence | null;
  readonly gpu: readonly GpuEvidenceEntry[] | null;
  /** What the driver tells; null: there is none to ask. */
  readonly observed: ReportStatement['observed'];
  readonly notes: readonly string[];
}

let attest: Promise<typeof import('@bridgekeeper/attest')> | undefined;

/** Loaded when it is first needed: no other request has a use for it. */
export function loadAttest(): Promise<typeof import('@bridgekeeper/attest')> {
  attest ??= import('@bridgekeeper/attest');
  return attest;
}

const NO_TEE = 'no TEE protects this server: what it says is its operator’s word';

/**
 * Makes reports of this machine: first the GPUs sign the nonce, then the CPU signs what binds all
 * of it together. What is missing is said, and never made up for.
 */
export class Reporter {
  readonly #machine: Pick<Machine, 'devices' | 'cpu'>;
  /** Found out with the first quote. */
  #tee: Exclude<Tee, 'none'> | undefined;

  constructor(machine: Pick<Machine, 'devices' | 'cpu'>) {
    this.#machine = machine;
  }

  async make(subject: ReportSubject, request: ReportRequest): Promise<MadeReport> {
    const { prepareReport, reportDocument } = await loadAttest();
    const devices = await this.#machine.devices(bytesOf(request.nonce));
    const { found: gpu, reason } = devices.gpu;
    const payload = gpu === null ? null : payloadOf(request.nonce, gpu);
    // The ones that the statement names, whatever follows them meanwhile.
    const encryptionKeys = (await subject.encryptionKeys?.()) ?? null;
    const signer = subject.receipts?.signer() ?? null;
    const statement = await statementOf(subject, request, {
      signer,
      payload,
      observed: devices.observation.found,
      encryptionKeys,
    });
    const { tee, cpu, prepared, missing } = await this.#bind(async (tee) =>
      prepareReport({ ...statement, tee }, request.binding, signer),
    );
    const notes = [
      ...(missing === null ? [] : [NO_TEE, missing]),
      ...(gpu === null ? [`there is no GPU evidence: ${reason}`] : []),
      ...(devices.observation.found?.gaps ?? []),
    ];
    const document = reportDocument(prepared, {
      modelName: subject.model?.name ?? '',
      tdxQuote: tee === 'tdx' ? cpu!.evidence : null,
      snpReport: tee === 'sev-snp' ? cpu!.evidence : null,
      snpCertificates: cpu?.certificates ?? null,
      eventLog: cpu?.eventLog ?? null,
      vmConfig: cpu?.vmConfig ?? null,
      info: cpu?.info ?? null,
      nvidiaPayload: payload,
      encryptionKeys,
      configuration: subject.configuration,
      notes,
    });
    const observed = devices.observation.found;
    return { document, tee, cpu, gpu, observed, notes };
  }

  /** The statement says which TEE there is, so that is found out first. */
  async #bind<P extends { readonly reportData: Uint8Array<ArrayBuffer> }>(
    prepare: (tee: Tee) => Promise<P>,
  ): Promise<{ tee: Tee; cpu: CpuEvidence | null; prepared: P; missing: string | null }> {
    if (this.#tee === undefined) {
      const trial = await this.#quote(new Uint8Array(64));
      if (trial.found === null) return this.#unbound(prepare, trial.reason);
      this.#tee = trial.found.tee;
    }
    const prepared = await prepare(this.#tee);
    const quote = await this.#quote(prepared.reportData);
    if (quote.found === null) return this.#unbound(prepare, quote.reason);
    return { tee: this.#tee, cpu: quote.found, prepared, missing: null };
  }

  async #unbound<P>(prepare: (tee: Tee) => Promise<P>, missing: string) {
    return { tee: 'none' as const, cpu: null, prepared: await prepare('none'), missing };
  }

  #quote(reportData: Uint8Array<ArrayBuffer>): Promise<Sought<CpuEvidence>> {
    return this.#machine.cpu(reportData, `bridgekeeper-${randomUUID()}`);
  }
}

/** What was found out for one report. */
interface Gathered {
  readonly signer: ReceiptSigner | null;
  readonly payload: string | null;
  readonly observed: ReportStatement['observed'];
  readonly encryptionKeys: Uint8Array | null;
}

async function statementOf(
  { software, model, configuration, tlsSpkiSha256, receipts }: ReportSubject,
  { nonce, issuedAt }: ReportRequest,
  { signer, payload, observed, encryptionKeys }: Gathered,
): Promise<ReportStatement> {
  return {
    type: 'bridgekeeper.report.v1',
    nonce,
    issuedAt,
    tee: 'none',
    tlsSpkiSha256,
    encryptionKeysSha256: encryptionKeys === null ? null : sha256(encryptionKeys),
    receiptKey: signer?.key ?? null,
    receiptChain: signer === null ? null : await receipts!.head(signer.key),
    gpuEvidenceSha256: payload === null ? null : sha256(payload),
    software: { ...software },
    model: model === null ? null : { ...model },
    configurationSha256: configuration === null ? null : sha256(canonicalBytes(configuration)),
    observed,
  };
}

/** As NVIDIA's attestation service and other services' clients take it. */
function payloadOf(nonce: string, entries: readonly GpuEvidenceEntry[]): string {
  return JSON.stringify({ nonce, evidence_list: entries, arch: entries[0]?.arch ?? null });
}

function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

function sha256(text: Uint8Array | string): string {
  return createHash('sha256').update(text).digest('hex');
}
