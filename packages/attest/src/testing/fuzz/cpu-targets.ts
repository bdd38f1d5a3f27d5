import { type Bytes, equalBytes, fromUtf8, toHex, utf8 } from '../../core/bytes.ts';
import { parseCertificate } from '../../core/certificate.ts';
import { ChainCache } from '../../core/chain.ts';
import { appraiseCcel, readCcel } from '../../cpu/ccel.ts';
import { demandNotRevoked, readRevocationList } from '../../cpu/revocation-list.ts';
import { readSnpReport } from '../../cpu/snp-report.ts';
import { readSnpCertificateTable } from '../../cpu/snp-table.ts';
import { appraiseSnpReport, readSnpEndorsement } from '../../cpu/snp-verify.ts';
import { readTdxCollateral } from '../../cpu/tdx-collateral.ts';
import { readTdxQuote, type TdxQuote } from '../../cpu/tdx-quote.ts';
import { appraiseTdxQuote, isVerified } from '../../cpu/tdx-verify.ts';
import {
  readHclReport,
  readTpmQuote,
  readVtpmEvidence,
  type VtpmEvidence,
} from '../../cpu/vtpm.ts';
import { appraiseVtpm } from '../../cpu/vtpm-verify.ts';
import { makeContext } from '../appraisal.ts';
import { bootRegisters, makeCcel } from '../ccel.ts';
import {
  type IntelAuthority,
  makeIntelAuthority,
  makeTdxCollateral,
  QUOTE_NOW_MS,
} from '../quote-authority.ts';
import { makeTdxQuote } from '../quote-report.ts';
import {
  makeAmdAuthority,
  makeAmdRevocationList,
  makeCertificateTable,
  makeSnpReport,
} from '../snp-authority.ts';
import { azureDocument, makeHclReport, makeTpmQuote, makeVtpm } from '../vtpm.ts';
import { WronglyAccepted } from './fuzz.ts';
import { type FuzzTarget, ofText } from './target.ts';

const NOBODY: ReadonlySet<string> = new Set();
const EVERY_FORM = ['4', '5.2', '5.3'] as const;

/** Everything that is not named is trusted by nobody. */
export function contextOf(roots: { readonly intel?: string; readonly amd?: string }) {
  const setOf = (root: string | undefined) => (root === undefined ? NOBODY : new Set([root]));
  const anchors = {
    nvidiaDevice: NOBODY,
    nvidiaRim: NOBODY,
    intelSgx: setOf(roots.intel),
    amdArk: setOf(roots.amd),
  };
  const context = makeContext({ nowMs: QUOTE_NOW_MS, anchors, chains: new ChainCache() });
  return { ...context, expectedReportData: null, minimumTcb: null };
}

const quotesOf = (intel: IntelAuthority) =>
  Promise.all(EVERY_FORM.map((form) => makeTdxQuote(intel, { form })));

/** Whether two quotes say the same by the same signatures: only their spelling can differ. */
function meansTheSame(a: TdxQuote, b: TdxQuote): boolean {
  const parts = (quote: TdxQuote): Bytes[] => [
    ...[quote.signed, quote.signature, quote.attestationKey, quote.qeAuthData],
    ...[quote.qeReport.signed, quote.qeReportSignature],
    ...quote.pckChain.map(({ der }) => der),
  ];
  return parts(a).every((part, i) => equalBytes(part, parts(b)[i]!));
}

const TDX_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'TDX quote',
    share: 30,
    reaches: ['cpu/tdx-quote', 'core/certificate', 'core/der'],
    refuses: ['malformed', 'unsupported-version', 'trailing-bytes'],
    prepare: async () => ({
      bases: await quotesOf(await makeIntelAuthority()),
      parse: readTdxQuote,
    }),
  },
  {
    name: 'TDX quote, verified',
    share: 3,
    reaches: ['cpu/tdx-verify', 'cpu/tdx-statements', 'cpu/tdx-tcb', 'cpu/pck', 'cpu/signature'],
    refuses: ['malformed'],
    prepare: async () => {
      const intel = await makeIntelAuthority();
      const bases = await quotesOf(intel);
      const originals = await Promise.all(bases.map((base) => readTdxQuote(base)));
      const collateral = await readTdxCollateral(await makeTdxCollateral(intel));
      const context = contextOf({ intel: intel.rootSha256 });
      const parse = async (input: Bytes) => {
        const quote = await readTdxQuote(input);
        if (originals.some((original) => meansTheSame(original, quote))) return;
        const claims = await appraiseTdxQuote(quote, collateral, context);
        if (isVerified(claims, 'cpu.quote')) throw new WronglyAccepted('a changed quote');
      };
      return { bases, parse };
    },
  },
  {
    name: 'TDX collateral',
    share: 6,
    reaches: ['cpu/tdx-collateral', 'cpu/revocation-list', 'core/json-shape'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: [utf8(await makeTdxCollateral(await makeIntelAuthority()))],
      parse: ofText(readTdxCollateral),
    }),
  },
  ...(['tcb_info', 'qe_identity', 'tcb_info_signature', 'qe_identity_signature'] as const).map(
    collateralTarget,
  ),
];

/** A statement of Intel's, or its signature, changed within collateral that is else genuine. */
function collateralTarget(name: string): FuzzTarget {
  return {
    name: `${name}, verified`,
    share: 1,
    reaches: ['cpu/tdx-collateral', 'cpu/tdx-statements'],
    refuses: ['malformed'],
    prepare: async () => {
      const intel = await makeIntelAuthority();
      const quote = await readTdxQuote(await makeTdxQuote(intel));
      const fields: Record<string, string> = JSON.parse(await makeTdxCollateral(intel));
      const original = fields[name]!;
      const context = contextOf({ intel: intel.rootSha256 });
      const parse = async (input: Bytes) => {
        const text = fromUtf8(input, name);
        // Hexadecimal has two spellings of a digit.
        const isHex = name.endsWith('signature');
        if (isHex && text.toLowerCase() === original.toLowerCase()) return;
        const collateral = await readTdxCollateral(JSON.stringify({ ...fields, [name]: text }));
        const claims = await appraiseTdxQuote(quote, collateral, context);
        if (isVerified(claims, 'cpu.collateral')) throw new WronglyAccepted(`a changed ${name}`);
      };
      return { bases: [utf8(original)], parse };
    },
  };
}

const SNP_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'SEV-SNP report',
    share: 160,
    reaches: ['cpu/snp-report'],
    refuses: ['malformed', 'trailing-bytes', 'unsupported-version'],
    prepare: async () => {
      const amd = await makeAmdAuthority();
      const bases = await Promise.all([2, 3, 5].map((version) => makeSnpReport(amd, { version })));
      return { bases, parse: readSnpReport };
    },
  },
  {
    name: 'SEV-SNP report, verified',
    share: 4,
    reaches: ['cpu/snp-verify', 'cpu/snp-key'],
    refuses: ['malformed'],
    prepare: async () => {
      const amd = await makeAmdAuthority();
      const bases = await Promise.all([2, 3, 5].map((version) => makeSnpReport(amd, { version })));
      const chain = await readSnpCertificateTable(makeCertificateTable(amd));
      const endorsement = readSnpEndorsement(chain, null);
      const context = contextOf({ amd: amd.arkSha256 });
      const parse = async (input: Bytes) => {
        if (bases.some((base) => equalBytes(base, input))) return;
        const claims = await appraiseSnpReport(readSnpReport(input), endorsement, context);
        if (isVerified(claims, 'cpu.quote')) throw new WronglyAccepted('a changed report');
      };
      return { bases, parse };
    },
  },
  {
    name: 'SEV-SNP certificates',
    share: 10,
    reaches: ['cpu/snp-table', 'core/certificate', 'core/der'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: [makeCertificateTable(await makeAmdAuthority())],
      parse: readSnpCertificateTable,
    }),
  },
  {
    name: 'revocation list',
    share: 180,
    reaches: ['cpu/revocation-list', 'core/der'],
    refuses: ['malformed', 'trailing-bytes'],
    prepare: async () => ({
      bases: [await makeAmdRevocationList(await makeAmdAuthority(), true)],
      parse: (input) => readRevocationList(input, 'the list'),
    }),
  },
  {
    name: 'revocation list, verified',
    share: 4,
    reaches: ['cpu/revocation-list', 'core/signature'],
    refuses: ['malformed', 'revocation-unknown'],
    prepare: async () => {
      const amd = await makeAmdAuthority();
      const issuer = await parseCertificate(amd.ark.der, 'the root');
      const revoked = await parseCertificate(amd.ask.der, 'the signer');
      const parse = async (input: Bytes) => {
        await demandNotRevoked(readRevocationList(input, 'the list'), issuer, [revoked]);
        throw new WronglyAccepted('"revoked" became "good"');
      };
      return { bases: [await makeAmdRevocationList(amd, true)], parse };
    },
  },
];

const BOOT_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'log of the boot',
    share: 120,
    reaches: ['cpu/ccel', 'core/bytes'],
    refuses: ['malformed', 'too-large', 'unsupported-algorithm'],
    prepare: async () => ({
      bases: [await makeCcel(), await makeCcel(undefined, { isDouble: true, filling: 0 })],
      parse: readCcel,
    }),
  },
  {
    name: 'log of the boot, verified',
    share: 10,
    reaches: ['cpu/ccel'],
    refuses: ['malformed'],
    prepare: async () => {
      const rtmrs = await bootRegisters();
      const quote = await readTdxQuote(await makeTdxQuote(await makeIntelAuthority(), { rtmrs }));
      const base = await makeCcel();
      const measured = (input: Bytes) =>
        readCcel(input)
          .filter(({ type }) => type !== 3)
          .map(({ index, digest }) => `${index} ${toHex(digest)}`)
          .sort();
      const known = measured(base).join();
      const parse = async (input: Bytes) => {
        const claim = await appraiseCcel(readCcel(input), quote, true);
        const isSame = measured(input).join() === known;
        if (claim.status === 'verified' && !isSame) throw new WronglyAccepted('another log');
      };
      return { bases: [base], parse };
    },
  },
  {
    name: 'evidence on Azure',
    share: 10,
    reaches: ['cpu/vtpm', 'core/json-shape'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: [utf8((await makeAzure()).document)],
      parse: ofText(readVtpmEvidence),
    }),
  },
  {
    name: 'HCL report',
    share: 40,
    reaches: ['cpu/vtpm'],
    refuses: ['malformed', 'unsupported-version', 'unsupported-algorithm'],
    prepare: async () => ({ bases: [(await makeAzure()).hcl], parse: readHclReport }),
  },
  {
    name: 'quote of a vTPM',
    share: 150,
    reaches: ['cpu/vtpm'],
    refuses: ['malformed', 'trailing-bytes', 'unsupported-algorithm'],
    prepare: async () => {
      const { signature, message, values } = (await makeAzure()).quote;
      return { bases: [message], parse: (input) => readTpmQuote(input, signature, values) };
    },
  },
  {
    name: 'evidence on Azure, verified',
    share: 4,
    reaches: ['cpu/vtpm-verify', 'cpu/vtpm'],
    refuses: ['malformed'],
    prepare: async () => {
      const { document, reportData } = await makeAzure();
      const known = await readVtpmEvidence(document);
      const meaning = ({ hcl, quote }: VtpmEvidence) =>
        JSON.stringify([hcl.attestationKey, toHex(quote.message), quote.values.map(toHex)]);
      const parse = async (input: Bytes) => {
        const evidence = await readVtpmEvidence(fromUtf8(input, 'the evidence'));
        if (meaning(evidence) === meaning(known)) return;
        const claims = await appraiseVtpm(evidence, reportData, true, null);
        if (isVerified(claims, 'cpu.pcrs')) throw new WronglyAccepted('other registers');
      };
      return { bases: [utf8(document)], parse };
    },
  },
];

async function makeAzure() {
  const vtpm = await makeVtpm();
  const { reportData } = vtpm;
  const amd = await makeAmdAuthority();
  const hcl = makeHclReport(vtpm.data, await makeSnpReport(amd, { reportData }));
  const quote = await makeTpmQuote(vtpm, new Uint8Array(32));
  return { hcl, quote, reportData, document: azureDocument(quote, hcl, { vcek: amd.key.der }) };
}

/** Evidence of CPUs. */
export const CPU_TARGETS: readonly FuzzTarget[] = [...TDX_TARGETS, ...SNP_TARGETS, ...BOOT_TARGETS];
