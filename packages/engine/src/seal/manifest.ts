import { z } from 'zod';
import { ModelError } from '../models/errors.ts';
import { parseJson } from '../models/files.ts';
import { scanStrict } from '../models/strict-json.ts';
import { chunkCount } from './chunks.ts';
import { frameDigest, SCHEMA } from './frame.ts';
import { isSmallName, isWeightName, SEAL_NAME } from './names.ts';

/** Digests of a chunk are over a tree whose leaves have this many bytes; see `hashTreeOf`. */
export const LEAF_BYTES = 8192;
/** Staging of the loader holds several chunks. */
const MAX_CHUNK_BYTES = 256 * 2 ** 20;
const MAX_FILES = 2048;
/** 16 TiB in chunks of 16 MiB; the text of the manifest then stays under 256 MiB. */
export const MAX_CHUNKS = 2 ** 20;
const MAX_NAME_BYTES = 1024;

export interface SealedChunk {
  /** `chunkDigest` of the plaintext, hex. */
  readonly digest: string;
  /** The tag of AES-256-GCM, hex; only where the model is encrypted. */
  readonly tag?: string | undefined;
}

export interface SealedFile {
  /** A file of the folder, or `additional_chat_templates/` and one of that. */
  readonly name: string;
  readonly bytes: number;
  /** Of `chunkBytes` each, the last one of what is left. */
  readonly chunks: readonly SealedChunk[];
}

export interface SealEncryption {
  readonly algorithm: 'AES-256-GCM';
  /** 32 random bytes of this sealing, hex: the content key follows from them and the user's key. */
  readonly salt: string;
  /** Tells whether a user's key is the right one, and nothing else about it. Hex. */
  readonly keyId: string;
}

/** What a sealing binds together; the root is a digest of it. */
export interface SealContents {
  readonly chunkBytes: number;
  readonly leafBytes: number;
  /** By name, in the order of UTF-16 code units. */
  readonly files: readonly SealedFile[];
  readonly encryption: SealEncryption | null;
}

/** A manifest that has been checked: complete, without contradictions, and `root` is its own. */
export interface Seal extends SealContents {
  /**
   * SHA-256, hex. The same root is the same model; encrypted, it has another one at each sealing,
   * because its salt is another.
   */
  readonly root: string;
  /** Of an encrypted model: HMAC-SHA-256 of the root under a key that follows from the user's. */
  readonly mac: string | null;
  /** As it lies in the folder. */
  readonly text: string;
}

/** Whether chunks may have `bytes` bytes. */
export function isChunkSize(bytes: number): boolean {
  return bytes >= LEAF_BYTES && bytes <= MAX_CHUNK_BYTES && bytes % LEAF_BYTES === 0;
}

function hex(bytes: number) {
  return z
    .string()
    .regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`), `must be ${2 * bytes} hex digits`);
}

const NAME = z
  .string()
  .max(MAX_NAME_BYTES)
  .refine((name) => isWeightName(name) || isSmallName(name), 'is no name of a file of a model');

const MANIFEST = z.strictObject({
  schema: z.literal(SCHEMA),
  chunkBytes: z
    .int()
    .refine(isChunkSize, `must be a multiple of ${LEAF_BYTES}, no more than 256 MiB`),
  leafBytes: z.literal(LEAF_BYTES),
  files: z
    .array(
      z.strictObject({
        name: NAME,
        bytes: z.int().min(0),
        chunks: z
          .array(z.strictObject({ digest: hex(32), tag: hex(16).optional() }))
          .max(MAX_CHUNKS),
      }),
    )
    .min(1)
    .max(MAX_FILES),
  encryption: z
    .strictObject({ algorithm: z.literal('AES-256-GCM'), salt: hex(32), keyId: hex(8) })
    .nullable(),
  root: hex(32),
  mac: hex(32).nullable(),
});

/** SHA-256 over everything that `contents` says, hex. */
export function rootOf({ chunkBytes, leafBytes, files, encryption }: SealContents): string {
  const digestsOf = ({ chunks }: SealedFile) =>
    Buffer.concat(chunks.map(({ digest }) => Buffer.from(digest, 'hex')));
  const tagsOf = ({ chunks }: SealedFile) =>
    Buffer.concat(chunks.map(({ tag }) => Buffer.from(tag ?? '', 'hex')));
  const { algorithm = '', salt = '', keyId = '' } = encryption ?? {};
  return frameDigest('root', [
    chunkBytes,
    leafBytes,
    algorithm,
    Buffer.from(salt, 'hex'),
    Buffer.from(keyId, 'hex'),
    files.length,
    ...files.flatMap((file) => [file.name, file.bytes, digestsOf(file), tagsOf(file)]),
  ]);
}

/** The text of the manifest of `contents`, whose root is `root`. */
export function sealText(contents: SealContents, root: string, mac: string | null): string {
  const { chunkBytes, leafBytes, files, encryption } = contents;
  const manifest = { schema: SCHEMA, chunkBytes, leafBytes, files, encryption, root, mac };
  return `${JSON.stringify(manifest)}\n`;
}

/**
 * Reads a manifest's text. Throws ModelError: `malformed` where it is no manifest or contradicts
 * itself, `seal-mismatch` where its root is not the digest of the rest.
 */
export function parseSeal(text: string): Seal {
  const parsed = parseJson(text, SEAL_NAME);
  const finding = scanStrict(text);
  if (finding?.kind === 'duplicate-key') throw malformed(`has the key ${show(finding.key)} twice`);
  if (finding !== undefined) throw malformed(`has the number ${show(finding.text)}`);
  const { success, data, error } = MANIFEST.safeParse(parsed);
  if (!success) {
    const { path, message } = error.issues[0]!;
    throw malformed(`${path.join('.').slice(0, 120)}: ${message.slice(0, 120)}`);
  }
  const { chunkBytes, leafBytes, files, encryption, root, mac } = data;
  const seal = { chunkBytes, leafBytes, files, encryption, root, mac, text };
  const contradiction = contradictionIn(seal);
  if (contradiction !== undefined) throw malformed(contradiction);
  if (rootOf(seal) !== root) {
    const message = `${SEAL_NAME}: its root is not that of what it lists: it was changed`;
    throw new ModelError('seal-mismatch', message);
  }
  return seal;
}

/** What the shape alone does not rule out, in words; undefined for a sound manifest. */
function contradictionIn({ chunkBytes, files, encryption, mac }: Seal): string | undefined {
  const isEncrypted = encryption !== null;
  if (isEncrypted !== (mac !== null)) return 'mac: must be there for encrypted models only';
  let chunksTotal = 0;
  for (const [index, { name, bytes, chunks }] of files.entries()) {
    const before = files[index - 1]?.name;
    if (before !== undefined && before >= name) {
      return `files.${index}: the names are not sorted, or one is there twice`;
    }
    const expected = chunkCount(chunkBytes, bytes);
    if (chunks.length !== expected) {
      return `files.${index}: ${bytes} bytes make ${expected} chunks, it lists ${chunks.length}`;
    }
    if (chunks.some(({ tag }) => (tag !== undefined) !== isEncrypted)) {
      return `files.${index}: tags must be there for encrypted models only`;
    }
    chunksTotal += chunks.length;
  }
  if (chunksTotal > MAX_CHUNKS) return `more than ${MAX_CHUNKS} chunks: seal with larger ones`;
  return files.some(({ name }) => isWeightName(name)) ? undefined : 'it lists no weights';
}

function malformed(what: string): ModelError {
  return new ModelError('malformed', `${SEAL_NAME}: ${what}`);
}

function show(value: string): string {
  return JSON.stringify(value.slice(0, 80));
}
