import {
  type Bytes,
  equalBytes,
  fromHex,
  fromUtf8,
  toBase64,
  toHex,
  utf8,
} from '../../core/bytes.ts';
import { canonicalBytes } from '../../core/canonical.ts';
import { ChainCache } from '../../core/chain.ts';
import { AttestError } from '../../core/errors.ts';
import { BUILT_IN_POLICIES } from '../../policy/built-in.ts';
import { pinPolicy } from '../../policy/pin.ts';
import type { Policy } from '../../policy/policy.ts';
import { readPolicy } from '../../policy/read.ts';
import { readReceiptLinks, verifyReceiptChain } from '../../receipts/chain.ts';
import { readSignedHead, sealHead, verifyHead } from '../../receipts/head.ts';
import { readSignedReceipt } from '../../receipts/receipt.ts';
import { verifyReceipt } from '../../receipts/verify.ts';
import { appraiseServerReport } from '../../report/appraise.ts';
import { expectedReportData, readServerReport } from '../../report/report.ts';
import { reportDocument } from '../../report/write.ts';
import { recognise } from '../../verify/recognise.ts';
import { verifyEvidence } from '../../verify/verify.ts';
import { toPem } from '../certificates.ts';
import { makeIntelAuthority, QUOTE_NOW_MS } from '../quote-authority.ts';
import { makeTdxQuote } from '../quote-report.ts';
import { makeReceiptChain, makeReceiptSigner } from '../receipts.ts';
import { makePayload, makeReportParts, makeStatement } from '../reports.ts';
import { makeService, type TestService } from '../service.ts';
import { makeAmdAuthority, makeAmdRevocationList, makeSnpReport } from '../snp-authority.ts';
import { WronglyAccepted } from './fuzz.ts';
import { type FuzzTarget, ofText } from './target.ts';

const NONCE = 'ab'.repeat(32);
const TLS = 'cd'.repeat(32);
const json = (value: unknown) => utf8(JSON.stringify(value));

async function makeOwnReport(): Promise<Bytes> {
  const signer = await makeReceiptSigner();
  const statement = await makeStatement(signer);
  const more = { nvidiaPayload: makePayload(NONCE), eventLog: '[]', vmConfig: '{}' };
  const { prepared, evidence } = await makeReportParts(statement, 'statement', signer, more);
  return json(reportDocument(prepared, evidence));
}

const FOREIGN_REPORT = {
  signing_address: `0x${'1a'.repeat(20)}`,
  signing_algo: 'ecdsa',
  request_nonce: NONCE,
  intel_quote: '00',
  nvidia_payload: makePayload(NONCE),
  event_log: [],
  info: {},
};

const REPORT_TARGETS: readonly FuzzTarget[] = [
  {
    name: "server's report",
    share: 30,
    reaches: ['report/report', 'report/statement', 'core/json-shape'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: [await makeOwnReport(), json(FOREIGN_REPORT)],
      parse: ofText(readServerReport),
    }),
  },
  {
    name: "server's report, verified",
    share: 4,
    reaches: ['report/appraise', 'report/report'],
    refuses: ['malformed'],
    prepare: async () => {
      const base = await makeOwnReport();
      const original = readServerReport(fromUtf8(base, 'the report'));
      const known = canonicalBytes(original.statement);
      const quote = { reportData: await expectedReportData(original), isVerified: true };
      const nonce = fromHex(NONCE, 'the nonce');
      const context = { nowMs: QUOTE_NOW_MS, nonce, connectionSpkiSha256: TLS, quote };
      const parse = async (input: Bytes) => {
        const report = readServerReport(fromUtf8(input, 'the report'));
        const claims = await appraiseServerReport(report, context);
        const binding = claims.find(({ kind }) => kind === 'server.binding');
        const isSame = equalBytes(canonicalBytes(report.statement), known);
        if (binding?.status === 'verified' && !isSame) throw new WronglyAccepted('a statement');
      };
      return { bases: [base], parse };
    },
  },
];

async function makeReceipts() {
  const signer = await makeReceiptSigner();
  return { signer, ...(await makeReceiptChain(signer, 3)) };
}

const RECEIPT_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'receipt',
    share: 40,
    reaches: ['receipts/receipt', 'core/json-shape'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: (await makeReceipts()).receipts.map(json),
      parse: ofText(readSignedReceipt),
    }),
  },
  {
    name: 'receipt, verified',
    share: 8,
    reaches: ['receipts/verify', 'core/ed25519', 'core/canonical'],
    refuses: ['malformed', 'signature-invalid'],
    prepare: async () => {
      const { signer, receipts } = await makeReceipts();
      const known = receipts.map(({ receipt }) => canonicalBytes(receipt));
      const parse = async (input: Bytes) => {
        const signed = readSignedReceipt(fromUtf8(input, 'the receipt'));
        await verifyReceipt(signed, signer.key);
        const found = canonicalBytes(signed.receipt);
        const isSame = known.some((one) => equalBytes(one, found));
        if (!isSame) throw new WronglyAccepted('a receipt that says something else');
      };
      return { bases: receipts.map(json), parse };
    },
  },
  {
    name: 'chain of receipts, verified',
    share: 8,
    reaches: ['receipts/chain', 'receipts/verify'],
    refuses: ['malformed', 'receipt-broken'],
    prepare: async () => {
      const { signer, receipts, links } = await makeReceipts();
      const known = await verifyReceiptChain(links, receipts, signer.key);
      const parse = async (input: Bytes) => {
        const read = readReceiptLinks(fromUtf8(input, 'the chain'));
        const last = await verifyReceiptChain(read, receipts, signer.key);
        // Longer than what one holds receipts for is no contradiction to them.
        const isLonger = read.digests.length > links.digests.length;
        if (last !== known && !isLonger) throw new WronglyAccepted('another chain');
      };
      return { bases: [json(links)], parse };
    },
  },
  {
    name: 'head of a chain of receipts, verified',
    share: 8,
    reaches: ['receipts/head', 'core/ed25519'],
    refuses: ['malformed', 'signature-invalid'],
    prepare: async () => {
      const { signer, head } = await makeReceipts();
      const parse = async (input: Bytes) => {
        const signed = readSignedHead(fromUtf8(input, 'the head'));
        const { sequence, hash } = await verifyHead(signed, signer.key);
        const isSame = sequence === head.sequence && hash === head.hash;
        if (!isSame) throw new WronglyAccepted('another head');
      };
      return { bases: [json(await sealHead(head, signer))], parse };
    },
  },
];

/** Files that are told by their content: binary, as text, and JSON. */
async function makeFiles(): Promise<Bytes[]> {
  const amd = await makeAmdAuthority();
  const quote = await makeTdxQuote(await makeIntelAuthority());
  const report = await makeSnpReport(amd);
  const list = await makeAmdRevocationList(amd, true);
  const texts = [toBase64(report), `0x${toHex(report)}`, toBase64(quote), toPem([amd.ark])];
  return [quote, report, list, ...texts.map(utf8), json(FOREIGN_REPORT), await makeOwnReport()];
}

const DOCUMENT_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'any file',
    share: 10,
    reaches: ['verify/recognise', 'core/bytes'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: await makeFiles(),
      parse: (bytes) => recognise({ name: 'f', bytes }),
    }),
  },
  {
    name: 'policy',
    share: 20,
    reaches: ['policy/read', 'policy/policy'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: [...BUILT_IN_POLICIES.values()].map(json),
      parse: ofText((text) => readPolicy(text, 'the policy')),
    }),
  },
  ...['report.json', 'collateral.json'].map(serviceTarget),
];

/** One file of a whole service is changed, and the others are as they were. */
function serviceTarget(name: string): FuzzTarget {
  return {
    name: `whole service, ${name}, verified`,
    share: 0.3,
    reaches: ['verify/verify', 'verify/evidence', 'verify/documents', 'verify/appraise'],
    refuses: ['malformed'],
    prepare: async () => {
      const service = await makeService();
      const open = BUILT_IN_POLICIES.get('service')!;
      const plain = await verifyService(service, service.files, open);
      const policy = pinPolicy(open, plain.claims)!;
      const good = await verifyService(service, service.files, policy);
      const known = JSON.stringify(good.claims);
      const parse = async (bytes: Bytes) => {
        const files = new Map([...service.files, [name, bytes]]);
        const { claims, verdict, unreadable } = await verifyService(service, files, policy);
        const isSame = JSON.stringify(claims) === known;
        if (verdict.result === 'verified' && !isSame) throw new WronglyAccepted('a service');
        for (const { code, message } of unreadable) throw new AttestError(code, message);
      };
      return { bases: [service.files.get(name)!], parse };
    },
  };
}

const chains = new ChainCache();

function verifyService(service: TestService, files: TestService['files'], policy: Policy) {
  const { nowMs, anchors, nonce } = service;
  return verifyEvidence({
    input: 'fuzz',
    files: [...files].map(([name, bytes]) => ({ name, bytes, isNamed: true })),
    policy,
    context: {
      nowMs,
      anchors,
      nonce,
      chains,
      references: null,
      collateral: null,
      tokenKeys: null,
      revocation: { status: async () => 'good' },
      connectionSpkiSha256: TLS,
    },
  });
}

/** What a service shows, and the whole of a verification. */
export const SERVICE_TARGETS: readonly FuzzTarget[] = [
  ...REPORT_TARGETS,
  ...RECEIPT_TARGETS,
  ...DOCUMENT_TARGETS,
];
