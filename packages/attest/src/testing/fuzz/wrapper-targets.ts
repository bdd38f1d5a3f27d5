import { type Bytes, utf8 } from '../../core/bytes.ts';
import { type Cbor, CborTag, readCbor } from '../../core/cbor.ts';
import { parseJson } from '../../core/json-shape.ts';
import { readCorim } from '../../rim/corim.ts';
import { readCborWrapper, readJsonWrapper } from '../../verify/cmw.ts';
import { readComposite } from '../../verify/composite.ts';
import { writeCbor } from '../cbor.ts';
import { makeCorim } from '../corim.ts';
import { type FuzzTarget, ofText } from './target.ts';

const json = (value: unknown) => utf8(JSON.stringify(value));
const VALUE = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8';

function cborWrappers(): Bytes[] {
  const bytes = new Uint8Array(40).fill(7);
  const inner = new Map<string, Cbor>([['log', ['a/b', bytes, 4]]]);
  const collection = new Map<string, Cbor>([
    ['__cmwc_t', 'tag:x'],
    ['quote', new CborTag(0x6374_0101, bytes)],
    ['more', inner],
  ]);
  return [writeCbor(['application/x', bytes]), writeCbor(collection)];
}

/** What holds evidence, and the encodings that it is written in. */
export const WRAPPER_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'CBOR',
    share: 120,
    reaches: ['core/cbor'],
    refuses: ['malformed', 'trailing-bytes'],
    prepare: async () => ({
      bases: [...cborWrappers(), makeCorim(true)],
      parse: (input) => readCbor(input, 'the input'),
    }),
  },
  {
    name: 'message wrapper in CBOR',
    share: 120,
    reaches: ['verify/cmw', 'core/cbor'],
    refuses: ['malformed', 'trailing-bytes'],
    prepare: async () => ({ bases: cborWrappers(), parse: readCborWrapper }),
  },
  {
    name: 'message wrapper in JSON',
    share: 60,
    reaches: ['verify/cmw'],
    refuses: ['malformed', 'unsupported-version'],
    prepare: async () => {
      const item = {
        __cmwc_t: 'tag:nvidia.com,2026:evidence-item/v1',
        evidence: ['application/vnd.nvidia.spdm-measurement-transcript', VALUE],
        certificate: ['application/vnd.nvidia.pem-cert-chain', VALUE],
      };
      const collection = 'tag:nvidia.com,2026:verifier-input/profiles/base/pre-1.0.0';
      const nvidia = { __cmwc_t: collection, nonce: ['a/b', VALUE], gpu_0: item };
      const plain = { __cmwc_t: 'tag:x', a: { b: ['a/b', VALUE, 4] } };
      const bases = [nvidia, plain, ['a/b', VALUE]].map(json);
      return { bases, parse: ofParsed(readJsonWrapper) };
    },
  },
  {
    name: 'composite evidence',
    share: 60,
    reaches: ['verify/composite'],
    refuses: ['malformed'],
    prepare: async () => {
      const primary_evidence = { quote: `${VALUE}=`, cc_eventlog: `${VALUE}=` };
      const whole = { primary_evidence, additional_evidence: '{"nvidia":{"a":1}}' };
      const bases = [whole, { 'tee-evidence': whole }, primary_evidence].map(json);
      return { bases, parse: ofParsed(readComposite) };
    },
  },
  {
    name: 'CoRIM',
    share: 100,
    reaches: ['rim/corim', 'core/cbor'],
    refuses: ['malformed', 'trailing-bytes', 'unsupported-version'],
    prepare: async () => ({ bases: [makeCorim(false), makeCorim(true)], parse: readCorim }),
  },
];

/** As files are: what is no JSON is turned away before it comes to a reader. */
const ofParsed = (read: (json: unknown) => unknown) =>
  ofText((text) => read(parseJson(text, 1024 * 1024, 'the input')));
