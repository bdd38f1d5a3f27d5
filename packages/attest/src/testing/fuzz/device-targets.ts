import { type Bytes, concatBytes, equalBytes, toHex, utf8 } from '../../core/bytes.ts';
import { parseCertificate } from '../../core/certificate.ts';
import { ChainCache } from '../../core/chain.ts';
import { appraiseDevice } from '../../nvidia/device.ts';
import { type DeviceArch, readDeviceReport } from '../../nvidia/device-report.ts';
import { readEvidenceList, readSingleReport } from '../../nvidia/evidence.ts';
import { fwidOf } from '../../nvidia/fwid.ts';
import { readOpaqueData } from '../../nvidia/opaque.ts';
import { makeContext } from '../appraisal.ts';
import { toPem } from '../certificates.ts';
import { makeDevice, makeDeviceAuthority, opaqueField } from '../device-authority.ts';
import { boardSwitchFields, makeBoard } from '../device-board.ts';
import { goodFields, makeEvidenceItem, makeReport } from '../device-reports.ts';
import { WronglyAccepted } from './fuzz.ts';
import { type FuzzTarget, ofText } from './target.ts';

const NONCE = new Uint8Array(32).fill(9);

async function makeGpu() {
  const authority = await makeDeviceAuthority();
  const gpu = await makeDevice(authority, { arch: 'hopper', pdi: '00000000000000a1' });
  const { anchors, ...rest } = makeContext({ nonce: NONCE });
  const trusted = { ...anchors, nvidiaDevice: authority.rootSha256 };
  const context = { ...rest, anchors: trusted, chains: new ChainCache() };
  return { gpu, report: await makeReport(gpu, { nonce: NONCE }), context };
}

const REPORT_MODULES = [
  'core/bytes',
  'nvidia/spdm',
  'nvidia/opaque',
  'nvidia/device-report',
] as const;

/** Evidence of GPUs and NVSwitches. */
export const DEVICE_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'GPU report',
    share: 60,
    reaches: REPORT_MODULES,
    refuses: ['malformed', 'trailing-bytes', 'unsupported-version'],
    prepare: async () => ({
      bases: [(await makeGpu()).report],
      parse: (input) => readDeviceReport(input, 'hopper'),
    }),
  },
  {
    name: "FSP's report",
    share: 60,
    reaches: REPORT_MODULES,
    refuses: ['malformed', 'trailing-bytes', 'unsupported-version'],
    prepare: async () => {
      const options = { arch: 'blackwell', reporter: 'fsp', pdi: '00000000000000b1' } as const;
      const fsp = await makeDevice(await makeDeviceAuthority(), options);
      const bases = [await makeReport(fsp, { nonce: NONCE })];
      return { bases, parse: (input) => readDeviceReport(input, 'blackwell', 'fsp') };
    },
  },
  {
    name: 'switch report',
    share: 60,
    reaches: REPORT_MODULES,
    refuses: ['malformed', 'trailing-bytes', 'unsupported-version'],
    prepare: async () => {
      const board = await makeBoard(await makeDeviceAuthority(), 1);
      const fields = boardSwitchFields(board, 1);
      const bases = [await makeReport(board.switches[0]!, { nonce: NONCE, fields })];
      return { bases, parse: (input) => readDeviceReport(input, 'ls10') };
    },
  },
  {
    name: 'opaque data',
    share: 200,
    reaches: ['nvidia/opaque'],
    refuses: ['malformed'],
    prepare: async () => {
      const { gpu } = await makeGpu();
      const parts = (isVersioned: boolean) =>
        goodFields(gpu).map(([type, data]) => opaqueField(type, data, isVersioned));
      const header = concatBytes(utf8('NVDAOD'), Uint8Array.of(0, 0, 2, 0, 0, 0));
      const bases = [concatBytes(...parts(false)), concatBytes(header, ...parts(true))];
      return { bases, parse: readOpaqueData };
    },
  },
  {
    name: 'evidence list',
    share: 10,
    reaches: ['nvidia/evidence', 'core/json-shape', 'core/certificate'],
    refuses: ['malformed'],
    prepare: async () => {
      const { gpu, report } = await makeGpu();
      const item = makeEvidenceItem(gpu, report);
      const hex = { ...item, uuid: 'GPU-0', evidence: toHex(report) };
      const lists = [
        [item],
        { result_code: 0, evidences: [item] },
        { device_evidence_list: [hex] },
      ];
      const bases = lists.map((list) => utf8(JSON.stringify(list)));
      return { bases, parse: ofText(readEvidenceList) };
    },
  },
  {
    name: 'firmware in a certificate',
    share: 30,
    reaches: ['nvidia/fwid', 'core/certificate', 'core/der'],
    refuses: ['malformed'],
    prepare: async () => {
      const authority = await makeDeviceAuthority();
      const leafOf = async (arch: DeviceArch, pdi: string) =>
        (await makeDevice(authority, { arch, pdi })).chain[0]!.der;
      const bases = [
        await leafOf('hopper', '00000000000000a1'),
        await leafOf('blackwell', '00000000000000b2'),
      ];
      const parse = async (input: Bytes) => {
        const certificate = await parseCertificate(input, 'the certificate');
        return [fwidOf(certificate, 'hopper'), fwidOf(certificate, 'blackwell')];
      };
      return { bases, parse };
    },
  },
  {
    name: 'GPU report, verified',
    share: 4,
    reaches: ['nvidia/device', 'nvidia/device-facts', 'nvidia/identity', 'nvidia/fwid'],
    refuses: ['malformed'],
    prepare: async () => {
      const { gpu, report, context } = await makeGpu();
      const pem = toPem(gpu.chain);
      const parse = async (input: Bytes) => {
        const evidence = await readSingleReport(input, pem, 'the report');
        const { isAuthentic, claims } = await appraiseDevice('GPU-0', evidence, context);
        const believed = claims.some(
          ({ status, voucher }) => status === 'verified' && voucher === 'device-signed',
        );
        if (isAuthentic || believed) throw new WronglyAccepted('a changed report is authentic');
      };
      return { bases: [report], parse };
    },
  },
  {
    name: 'GPU certificate, verified',
    share: 1,
    reaches: ['core/der', 'core/certificate', 'core/chain', 'core/signature'],
    refuses: ['malformed'],
    prepare: async () => {
      const { gpu, report, context } = await makeGpu();
      const bases = gpu.chain.map((one) => one.der);
      const parse = async (input: Bytes) => {
        if (bases.some((base) => equalBytes(base, input))) return;
        // In one place of the chain after the other, whichever it was made of.
        for (const at of bases.keys()) {
          const chain = gpu.chain.map((one, i) => (i === at ? { ...one, der: input } : one));
          const evidence = await readSingleReport(report, toPem(chain), 'the report');
          const { isAuthentic } = await appraiseDevice('GPU-0', evidence, context);
          if (isAuthentic) throw new WronglyAccepted(`a changed certificate ${at} is authentic`);
        }
      };
      return { bases, parse };
    },
  },
];
