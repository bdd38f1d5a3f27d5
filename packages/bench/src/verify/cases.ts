import {
  BUILT_IN_POLICIES,
  ChainCache,
  type GivenFile,
  type Policy,
  pinPolicy,
  type TrustAnchors,
  VENDOR_ROOTS,
  type VerifyResult,
  verifyEvidence,
} from '@bridgekeeper/attest';

/** Something to verify, as plain data: it travels to the thread that is measured. */
export interface VerifyCase {
  readonly input: string;
  readonly files: readonly GivenFile[];
  readonly policy: Policy;
  readonly anchors: TrustAnchors;
  readonly nowMs: number;
  readonly nonce: Uint8Array<ArrayBuffer> | null;
  /** Whether every certificate is said not to be revoked; else no service is asked. */
  readonly isUnrevoked: boolean;
  /** Absent: the evidence came as a file. */
  readonly connectionSpkiSha256?: string;
}

/** Verifies it without asking any service. */
export function verifyCase(one: VerifyCase, chains: ChainCache): Promise<VerifyResult> {
  const { input, files, policy, anchors, nowMs, nonce, connectionSpkiSha256 } = one;
  return verifyEvidence({
    input,
    files,
    policy,
    context: {
      nowMs,
      anchors,
      nonce,
      chains,
      references: null,
      collateral: null,
      tokenKeys: null,
      revocation: one.isUnrevoked ? { status: async () => 'good' } : null,
      ...(connectionSpkiSha256 === undefined ? {} : { connectionSpkiSha256 }),
    },
  });
}

/** A service with a TDX quote and a board of 8 GPUs and 4 switches, then its parts. */
export async function madeCases(): Promise<[service: VerifyCase, ...parts: VerifyCase[]]> {
  const { makeService } = await import('@bridgekeeper/attest/testing');
  const { files, anchors, nowMs, nonce } = await makeService();
  const given = [...files].map(([name, bytes]) => ({ name, bytes, isNamed: true }));
  const open = BUILT_IN_POLICIES.get('service')!;
  const common = { anchors, nowMs, nonce, isUnrevoked: true };
  const spki = { connectionSpkiSha256: 'cd'.repeat(32) };
  const service = { ...common, ...spki, input: 'made-up service', files: given, policy: open };
  const { claims } = await verifyCase(service, new ChainCache());
  const report = JSON.parse(new TextDecoder().decode(files.get('report.json')));
  const evidence = { ...common, policy: BUILT_IN_POLICIES.get('evidence')! };
  const file = (name: string, bytes: Uint8Array<ArrayBuffer>) => ({ name, bytes, isNamed: true });
  const board = new TextEncoder().encode(report.nvidia_payload);
  const quote = new Uint8Array(Buffer.from(report.intel_quote, 'hex'));
  const collateral = file('collateral.json', files.get('collateral.json')!);
  const quoteFiles = [file('quote.bin', quote), collateral];
  return [
    { ...service, policy: pinPolicy(open, claims) ?? open },
    { ...evidence, input: 'made-up board', files: [file('board.json', board)] },
    { ...evidence, nonce: null, input: 'made-up TDX quote', files: quoteFiles },
  ];
}

/** Evidence of vendors' machines: files joined by `+`, or a folder. Throws EvidenceFileError. */
export async function givenCase(paths: string, nowMs: number): Promise<VerifyCase> {
  // Loaded when it is needed: the thread that is measured has no use for it.
  const { readEvidenceFiles } = await import('@bridgekeeper/attest/node');
  const { files } = await readEvidenceFiles(paths.split('+'));
  return {
    input: files.map(({ name }) => name).join(' '),
    files,
    policy: BUILT_IN_POLICIES.get('evidence')!,
    anchors: VENDOR_ROOTS,
    nowMs,
    nonce: null,
    isUnrevoked: false,
  };
}
