import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { chunkCount, chunkDigest, chunkSpan, expectedDigest, sealedFile } from './chunks.ts';
import { frame } from './frame.ts';
import { parseSeal, rootOf, type Seal, type SealContents, sealText } from './manifest.ts';
import { isSmallName, isWeightName } from './names.ts';

const hex = (bytes: number) =>
  fc
    .uint8Array({ minLength: bytes, maxLength: bytes })
    .map((all) => Buffer.from(all).toString('hex'));

const NAMES = [
  'additional_chat_templates/rag.jinja',
  'chat_template.jinja',
  'config.json',
  'model-00001-of-00002.safetensors',
  'model-00002-of-00002.safetensors',
  'tokenizer.json',
];

/** Any sound manifest: what it says of chunks need not be true of any file. */
const manifests: fc.Arbitrary<{ contents: SealContents; mac: string | null }> = fc
  .record({
    chunkBytes: fc.integer({ min: 1, max: 4 }).map((leaves) => leaves * 8192),
    sizes: fc.array(fc.integer({ min: 0, max: 100_000 }), { minLength: 6, maxLength: 6 }),
    isEncrypted: fc.boolean(),
    digest: hex(32),
    tag: hex(16),
    salt: hex(32),
    keyId: hex(8),
    mac: hex(32),
  })
  .map(({ chunkBytes, sizes, isEncrypted, digest, tag, salt, keyId, mac }) => {
    const chunk = isEncrypted ? { digest, tag } : { digest };
    const files = NAMES.map((name, index) => {
      const chunks = Array.from({ length: chunkCount(chunkBytes, sizes[index]!) }, () => chunk);
      return { name, bytes: sizes[index]!, chunks };
    });
    const encryption = { algorithm: 'AES-256-GCM' as const, salt, keyId };
    return {
      contents: { chunkBytes, leafBytes: 8192, files, encryption: isEncrypted ? encryption : null },
      mac: isEncrypted ? mac : null,
    };
  });

const textOf = ({ contents, mac }: { contents: SealContents; mac: string | null }) =>
  sealText(contents, rootOf(contents), mac);

/** The one sound manifest that the table of broken ones starts from. */
const [SOUND] = fc.sample(
  manifests.filter(({ contents }) => contents.encryption !== null && contents.files[2]!.bytes > 0),
  { numRuns: 1, seed: 1 },
);

interface Loose {
  [key: string]: unknown;
  files: {
    [key: string]: unknown;
    name: string;
    bytes: number;
    chunks: Record<string, unknown>[];
  }[];
}

/** The sound manifest after `edit`, with the root of what it then says. */
function edited(edit: (manifest: Loose) => void): string {
  const manifest = JSON.parse(textOf(SOUND!)) as Loose;
  edit(manifest);
  try {
    manifest.root = rootOf(manifest as unknown as SealContents);
  } catch {
    // What has no root is refused before that.
  }
  return JSON.stringify(manifest);
}

const failure = (code: string, words: string) =>
  expect.objectContaining({
    name: 'ModelError',
    code,
    message: expect.stringContaining(words) as string,
  });

function refusal(text: string): unknown {
  try {
    return parseSeal(text);
  } catch (error) {
    return error;
  }
}

describe('a manifest', () => {
  test('is read as it was written', () => {
    fc.assert(
      fc.property(manifests, (manifest) => {
        const text = textOf(manifest);
        const { contents, mac } = manifest;
        expect(parseSeal(text)).toEqual({ ...contents, root: rootOf(contents), mac, text });
      }),
    );
  });

  test('has another root whenever it says something else', () => {
    const texts = fc.tuple(manifests, manifests);
    fc.assert(
      fc.property(texts, ([{ contents: a }, { contents: b }]) => {
        const isSame = JSON.stringify(a) === JSON.stringify(b);
        expect(rootOf(a) === rootOf(b)).toBe(isSame);
      }),
    );
  });

  const firstChunk = (manifest: Loose) => manifest.files[2]!.chunks[0]!;
  test.each<[string, (manifest: Loose) => void]>([
    ['more', (manifest) => (manifest.more = 1)],
    ['files.0', (manifest) => (manifest.files[0]!.more = 1)],
    ['files.2.chunks.0', (manifest) => (firstChunk(manifest).more = 1)],
    ['schema', (manifest) => (manifest.schema = 'bridgekeeper.seal/2')],
    ['chunkBytes', (manifest) => (manifest.chunkBytes = 8191)],
    ['chunkBytes', (manifest) => (manifest.chunkBytes = 2 ** 29)],
    ['leafBytes', (manifest) => (manifest.leafBytes = 4096)],
    ['encryption.algorithm', (m) => ((m.encryption as Loose).algorithm = 'none')],
    ['encryption.salt', (m) => ((m.encryption as Loose).salt = '00')],
    ['digest', (manifest) => (firstChunk(manifest).digest = 'AB'.repeat(32))],
    ['sorted', (manifest) => manifest.files.reverse()],
    ['twice', (manifest) => manifest.files.splice(1, 0, manifest.files[1]!)],
    ['chunks, it lists', (manifest) => manifest.files[2]!.chunks.push(firstChunk(manifest))],
    ['chunks, it lists', (manifest) => manifest.files[2]!.chunks.pop()],
    ['tags must', (manifest) => delete firstChunk(manifest).tag],
    ['mac: must', (manifest) => (manifest.mac = null)],
    ['mac: must', (manifest) => (manifest.encryption = null)],
    ['no weights', (manifest) => manifest.files.splice(3, 2)],
    ['files', (manifest) => manifest.files.splice(0)],
    ...[
      '../config.json',
      '/config.json',
      'a/b.safetensors',
      '..',
      'run.sh',
      'x\\y.safetensors',
    ].map((name): [string, (manifest: Loose) => void] => [
      'files.5.name',
      (manifest) => (manifest.files[5]!.name = name),
    ]),
  ])('is refused, naming %s (%#)', (where, edit) => {
    expect(refusal(edited(edit))).toEqual(failure('malformed', where));
  });

  test('is refused with a key twice, a number that is none, or a prototype', () => {
    const text = textOf(SOUND!);
    const chunkBytes = `"chunkBytes":${SOUND!.contents.chunkBytes}`;
    const twice = text.replace(chunkBytes, `${chunkBytes},${chunkBytes}`);
    expect(refusal(twice)).toEqual(failure('malformed', '"chunkBytes" twice'));
    const fraction = text.replace(chunkBytes, `${chunkBytes}.0`);
    expect(refusal(fraction)).toEqual(failure('malformed', 'number'));
    const prototype = text.replace('{', '{"__proto__":{},');
    expect(refusal(prototype)).toEqual(failure('malformed', ''));
  });

  test('is refused when its root is not its own, or missing', () => {
    const other = parseSeal(textOf(SOUND!));
    const text = sealText(other, '0'.repeat(64), other.mac);
    expect(refusal(text)).toEqual(failure('seal-mismatch', 'root'));
    const without = text.replace(/"root":"0+",/, '');
    expect(refusal(without)).toEqual(failure('malformed', 'root'));
  });
});

describe('any text', () => {
  const sound = parseSeal(textOf(SOUND!));

  /** Either a ModelError, or what the sound manifest says: only the mac is outside of the root. */
  function check(text: string): void {
    const result = refusal(text);
    if (result instanceof Error) {
      expect(result.name).toBe('ModelError');
      expect(result.message.length).toBeLessThan(400);
    } else {
      expect({ ...(result as Seal), text: '', mac: '' }).toEqual({ ...sound, text: '', mac: '' });
    }
  }

  test('with bytes changed, lost or doubled never passes for something else', () => {
    const bytes = Buffer.from(sound.text, 'latin1');
    const edits = fc.array(
      fc.record({
        at: fc.nat(bytes.length - 1),
        length: fc.nat(40),
        byte: fc.constantFrom(...Buffer.from('0123456789abcdef{}[],:"\\ntrue-.e')),
        kind: fc.constantFrom('change', 'lose', 'double'),
      }),
      { minLength: 1, maxLength: 4 },
    );
    fc.assert(
      fc.property(edits, (all) => {
        const text = all.reduce((before, { at, length, byte, kind }) => {
          const [head, rest] = [before.subarray(0, at), before.subarray(at)];
          if (kind === 'change') return Buffer.concat([head, Buffer.of(byte), rest.subarray(1)]);
          if (kind === 'lose') return Buffer.concat([head, rest.subarray(length)]);
          return Buffer.concat([head, rest.subarray(0, length), rest]);
        }, bytes);
        check(text.toString('latin1'));
      }),
      { numRuns: 500 },
    );
  });

  test('of JSON is a manifest or a ModelError', () => {
    const anything = fc.jsonValue({ maxDepth: 4 });
    fc.assert(fc.property(anything, (value) => check(JSON.stringify(value))));
    const keys = Object.keys(JSON.parse(sound.text) as object);
    fc.assert(
      fc.property(fc.constantFrom(...keys), anything, (key, value) => {
        check(JSON.stringify({ ...(JSON.parse(sound.text) as object), [key]: value }));
      }),
    );
    fc.assert(fc.property(fc.string(), check));
  });
});

describe('digests', () => {
  const seal = parseSeal(textOf(SOUND!));

  test('are SHA-256 over the framing that is documented', () => {
    const u64 = (value: number) => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(BigInt(value));
      return bytes;
    };
    const sized = (bytes: Uint8Array) => [u64(bytes.length), bytes];
    const { index, file } = sealedFile(seal, 'config.json');
    const { bytes } = chunkSpan(seal.chunkBytes, file.bytes, 0);
    const treeRoot = Buffer.alloc(32, 7);
    const parts = [
      ...sized(Buffer.from('bridgekeeper.seal/1 chunk')),
      ...sized(Buffer.from('config.json')),
      ...[u64(0), u64(bytes), u64(file.bytes)],
      ...sized(treeRoot),
    ];
    const byHand = createHash('sha256').update(Buffer.concat(parts)).digest('hex');
    expect(chunkDigest(seal, index, 0, treeRoot)).toBe(byHand);
    expect(expectedDigest(seal, index, 0)).toBe(file.chunks[0]!.digest);
  });

  test('differ by file, place, lengths and contents', () => {
    const chunkBytes = 8192;
    const file = (name: string, bytes: number) => {
      const chunks = Array.from({ length: chunkCount(chunkBytes, bytes) }, () => ({ digest: '' }));
      return { name, bytes, chunks };
    };
    const files = [
      file('a.safetensors', 16384),
      file('b.safetensors', 16384),
      file('c.safetensors', 16385),
    ];
    const made: Seal = { ...seal, chunkBytes, files };
    const cases = [
      [0, 0, 1],
      [0, 0, 2],
      [0, 1, 1],
      [1, 0, 1],
      [2, 0, 1],
      [2, 2, 1],
    ].map(([at, chunk, fill]) => chunkDigest(made, at!, chunk!, Buffer.alloc(32, fill)));
    expect(new Set(cases).size).toBe(cases.length);
  });

  test('frames of different lists differ', () => {
    const field = fc.string({ maxLength: 4 });
    const lists = fc.array(fc.tuple(fc.nat(300), field), { maxLength: 3 });
    fc.assert(
      fc.property(lists, lists, (a, b) => {
        const isSame = JSON.stringify(a) === JSON.stringify(b);
        expect(frame('test', a.flat()).equals(frame('test', b.flat()))).toBe(isSame);
      }),
    );
  });

  test('chunks cover a file once', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 50 }), fc.nat(1000), (chunkBytes, bytes) => {
        let end = 0;
        for (let chunk = 0; chunk < chunkCount(chunkBytes, bytes); chunk++) {
          const span = chunkSpan(chunkBytes, bytes, chunk);
          expect(span.offsetBytes).toBe(end);
          expect(span.bytes).toBeGreaterThan(0);
          expect(span.bytes).toBeLessThanOrEqual(chunkBytes);
          end += span.bytes;
        }
        expect(end).toBe(bytes);
        expect(() => chunkSpan(chunkBytes, bytes, chunkCount(chunkBytes, bytes))).toThrow('chunk');
      }),
    );
  });

  test('names of files are plain', () => {
    for (const name of NAMES) expect(isSmallName(name) || isWeightName(name)).toBe(true);
    for (const name of ['tokenizer_config.json', 'model.safetensors.index.json']) {
      expect(isSmallName(name)).toBe(true);
    }
    const odd = ['', '.', 'a/b/c.jinja', 'additional_chat_templates/a/b.jinja', 'other/a.jinja'];
    const more = ['tokenizer/x.json', 'config.json\0', 'bridgekeeper.seal.json', 'README.md'];
    for (const name of [...odd, ...more, 'additional_chat_templates/..', '\ud800.safetensors']) {
      expect(isSmallName(name) || isWeightName(name)).toBe(false);
    }
  });
});
