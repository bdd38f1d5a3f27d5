import { type Bytes, concatBytes, fromHex, fromUtf8, toHex, utf8 } from '../../core/bytes.ts';
import { digest, sha256Hex } from '../../core/digest.ts';
import { readEventLog } from '../../cpu/event-log.ts';
import { readSnpReport } from '../../cpu/snp-report.ts';
import { readTdxCollateral } from '../../cpu/tdx-collateral.ts';
import { appraiseDstackReport } from '../../dstack/app.ts';
import { readDstackAttestation } from '../../dstack/attestation.ts';
import { readGpuBootEvent } from '../../dstack/gpu-boot.ts';
import { readDstackReport } from '../../dstack/report.ts';
import { appraiseSnpApp } from '../../dstack/snp-app.ts';
import { toPem } from '../certificates.ts';
import { packedAttestation, scaleAttestation } from '../dstack-attestation.ts';
import {
  makeFirmwareEvent,
  makeRegisters,
  makeRuntimeEvent,
  type TestEvent,
} from '../event-log.ts';
import { type IntelAuthority, makeIntelAuthority, makeTdxCollateral } from '../quote-authority.ts';
import { makeTdxQuote } from '../quote-report.ts';
import { makeAmdAuthority, makeSnpReport } from '../snp-authority.ts';
import { contextOf } from './cpu-targets.ts';
import { WronglyAccepted } from './fuzz.ts';
import { type FuzzTarget, ofText } from './target.ts';

const COMPOSE = '{"name":"app"}';
const GPU_EVIDENCE = utf8('what the verifier wrote');

async function makeGpuBoot(): Promise<Bytes> {
  const event = {
    version: 2,
    provider: 'nvidia',
    devices: 1,
    cc_mode: 'on',
    devtools: false,
    evidence_sha256: await sha256Hex(GPU_EVIDENCE),
  };
  return utf8(JSON.stringify(event));
}

async function makeLog(): Promise<TestEvent[]> {
  const compose = new Uint8Array(await crypto.subtle.digest('SHA-256', utf8(COMPOSE)));
  const runtime = [
    await makeRuntimeEvent('app-id', new Uint8Array(20).fill(0xa1)),
    await makeRuntimeEvent('compose-hash', compose),
    await makeRuntimeEvent('gpu-attestation', await makeGpuBoot()),
    await makeRuntimeEvent('key-provider', utf8('{"name":"kms","id":"00ff"}'), 2),
    await makeRuntimeEvent('system-ready', new Uint8Array(0)),
  ];
  return [makeFirmwareEvent(0, 1), makeFirmwareEvent(1, 2), ...runtime];
}

async function makeDstackReport(intel: IntelAuthority): Promise<Bytes> {
  const log = await makeLog();
  const quote = toHex(await makeTdxQuote(intel, { rtmrs: await makeRegisters(log) }));
  const report = { quote, event_log: JSON.stringify(log), vm_config: '{"num_gpus":1}' };
  return utf8(JSON.stringify(report));
}

async function makeAttestations(intel: IntelAuthority): Promise<Bytes[]> {
  const runtime = (await makeLog()).filter(({ imr }) => imr === 3);
  const quote = await makeTdxQuote(intel, { rtmrs: await makeRegisters(await makeLog()) });
  const plain = runtime.filter(({ version }) => version === undefined);
  const config = '{"num_gpus":1}';
  const amd = await makeAmdAuthority();
  const tdx = { platform: { kind: 'tdx', quote, events: plain }, runtime: plain, config } as const;
  const report = await makeSnpReport(amd);
  const certificates = [amd.key.der, utf8(toPem([amd.ask]))];
  const snp = { kind: 'sev-snp', report, certificates, configuration: '{}' } as const;
  return [
    scaleAttestation(tdx),
    packedAttestation(tdx),
    scaleAttestation({ platform: snp, runtime: [], config }),
    packedAttestation({ platform: snp, runtime: [], config }, true),
  ].map((json) => fromHex(JSON.parse(json).attestation, 'the attestation'));
}

/** What dstack adds to a quote. */
export const DSTACK_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'event log',
    share: 50,
    reaches: ['cpu/event-log', 'core/json-shape'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: [utf8(JSON.stringify(await makeLog()))],
      parse: ofText(readEventLog),
    }),
  },
  {
    name: 'dstack report',
    share: 10,
    reaches: ['dstack/report', 'cpu/event-log', 'cpu/tdx-quote'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: [await makeDstackReport(await makeIntelAuthority())],
      parse: ofText(readDstackReport),
    }),
  },
  {
    name: 'dstack report, verified',
    share: 1,
    reaches: ['dstack/app', 'dstack/boot', 'dstack/measured', 'dstack/gpu-boot', 'cpu/event-log'],
    refuses: ['malformed'],
    prepare: async () => {
      const intel = await makeIntelAuthority();
      const collateral = await readTdxCollateral(await makeTdxCollateral(intel));
      const context = contextOf({ intel: intel.rootSha256 });
      const documents = { compose: COMPOSE, gpuEvidence: GPU_EVIDENCE };
      const provenBy = async (input: Bytes) => {
        const report = await readDstackReport(fromUtf8(input, 'the report'));
        const claims = await appraiseDstackReport(report, collateral, documents, context);
        const proven = claims.filter(({ status }) => status === 'verified');
        return proven.map(({ kind, value }) => `${kind} ${JSON.stringify(value)}`);
      };
      const base = await makeDstackReport(intel);
      const known = new Set(await provenBy(base));
      const parse = async (input: Bytes) => {
        const other = (await provenBy(input)).find((claim) => !known.has(claim));
        if (other !== undefined) throw new WronglyAccepted(other);
      };
      return { bases: [base], parse };
    },
  },
  {
    name: 'dstack attestation',
    share: 20,
    reaches: ['dstack/attestation', 'dstack/msgpack', 'core/bytes'],
    refuses: ['malformed', 'trailing-bytes', 'unsupported-version'],
    prepare: async () => ({
      bases: await makeAttestations(await makeIntelAuthority()),
      parse: (input) => readDstackAttestation(JSON.stringify({ attestation: toHex(input) })),
    }),
  },
  {
    name: 'dstack configuration of SEV-SNP, verified',
    share: 10,
    reaches: ['dstack/snp-app'],
    refuses: [],
    prepare: async () => {
      const base = utf8(JSON.stringify({ app_id: 'a1', compose_hash: 'c0', key_provider: 'kms' }));
      const domain = utf8('dstack-mr-config-v3:\0');
      const hostData = await digest('SHA-256', concatBytes(domain, base));
      const report = readSnpReport(await makeSnpReport(await makeAmdAuthority(), { hostData }));
      const none = { compose: null, gpuEvidence: null };
      const parse = async (input: Bytes) => {
        const configuration = fromUtf8(input, 'the configuration');
        const claims = await appraiseSnpApp({ configuration, vmConfig: null }, report, none, true);
        const proven = claims.find(({ status }) => status === 'verified');
        if (proven !== undefined) throw new WronglyAccepted(proven.kind);
      };
      return { bases: [base], parse };
    },
  },
  {
    name: 'GPU check at boot',
    share: 60,
    reaches: ['dstack/gpu-boot'],
    refuses: ['malformed'],
    prepare: async () => ({ bases: [await makeGpuBoot()], parse: readGpuBootEvent }),
  },
];
