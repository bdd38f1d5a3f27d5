import { type Bytes, fromUtf8, utf8 } from '../../core/bytes.ts';
import { AttestError } from '../../core/errors.ts';
import { readSnpFirmware } from '../../measure/snp-launch.ts';
import { readTdvf, tdxMrtd } from '../../measure/tdvf.ts';
import { readLogProof, verifyLogProof } from '../../transparency/log-proof.ts';
import { readNoteKey } from '../../transparency/signed-note.ts';
import { makeFirmware } from '../firmware.ts';
import { makeLogProof, makeNoteSigner } from '../transparency-log.ts';
import { WronglyAccepted } from './fuzz.ts';
import { type FuzzTarget, ofText } from './target.ts';

const PAGE = 4096;
const ENTRIES = Array.from({ length: 5 }, (_, i) => utf8(`entry ${i}`));

async function makeSigned() {
  const log = await makeNoteSigner('log.example', 1);
  const witnesses = [
    await makeNoteSigner('w.example/a', 4),
    await makeNoteSigner('w.example/b', 4),
  ];
  const proof = await makeLogProof(ENTRIES, 2, log, witnesses, 1_790_000_000);
  const trust = {
    log: await readNoteKey(log.vkey),
    witnesses: await Promise.all(witnesses.map(({ vkey }) => readNoteKey(vkey))),
    witnessesMin: witnesses.length,
  };
  return { proof, trust };
}

/** What evidence is to be compared with: firmware, and what is in a public log. */
export const MEASURE_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'firmware for SEV-SNP',
    share: 5,
    reaches: ['measure/firmware-table', 'measure/snp-launch'],
    refuses: ['malformed'],
    prepare: async () => {
      const sev = [
        { address: 0x80_0000, bytes: PAGE, type: 1 },
        { address: 0x81_0000, bytes: PAGE, type: 0x10 },
      ];
      const whole = { bytes: PAGE, sev, hashTableAddress: 0x81_0c00, resetAddress: 0x80_b004 };
      return { bases: [makeFirmware(whole)], parse: readSnpFirmware };
    },
  },
  {
    name: 'firmware for TDX',
    share: 20,
    reaches: ['measure/firmware-table', 'measure/tdvf'],
    refuses: ['malformed'],
    prepare: async () => {
      const none = { at: 0, contentBytes: 0 };
      const tdx = [
        { ...none, contentBytes: 512, address: 0xffff_f000, bytes: PAGE, type: 1, attributes: 1 },
        { ...none, address: 0x80_9000, bytes: PAGE, type: 2, attributes: 0 },
      ];
      const parse = async (input: Bytes) => {
        const sections = readTdvf(input);
        const pages = sections.reduce((sum, { bytes }) => sum + bytes / PAGE, 0);
        // What is read can be measured; large sections only take longer.
        if (pages <= 16) await tdxMrtd(sections, 'two-pass');
      };
      return { bases: [makeFirmware({ bytes: PAGE, tdx })], parse };
    },
  },
  {
    name: 'log proof',
    share: 30,
    reaches: ['transparency/log-proof', 'transparency/signed-note'],
    refuses: ['malformed', 'unsupported-version'],
    prepare: async () => ({
      bases: [utf8((await makeSigned()).proof)],
      parse: ofText(readLogProof),
    }),
  },
  {
    name: 'log proof, verified',
    share: 1,
    reaches: ['transparency/log-proof', 'transparency/signed-note'],
    refuses: ['malformed'],
    prepare: async () => {
      const { proof, trust } = await makeSigned();
      const entry = ENTRIES[2]!;
      const known = JSON.stringify(await verifyLogProof(entry, readLogProof(proof), trust));
      const parse = async (input: Bytes) => {
        const read = readLogProof(fromUtf8(input, 'the proof'));
        const logged = JSON.stringify(await verifyLogProof(entry, read, trust));
        if (logged !== known) throw new WronglyAccepted(logged);
        const other = await verifyLogProof(ENTRIES[1]!, read, trust).catch((error: unknown) => {
          if (error instanceof AttestError) return null;
          throw error;
        });
        if (other !== null) throw new WronglyAccepted('another entry');
      };
      return { bases: [utf8(proof)], parse };
    },
  },
];
