import { ByteReader, type Bytes, concat, utf8, varint } from './bytes.ts';
import { EnvelopeError } from './errors.ts';
import { TAG_BYTES } from './suite.ts';

/** Of a chunk before it is sealed: what every receiver must take (draft, section 3). */
export const CHUNK_BYTES_MAX = 16_384;

/** Bound into the last chunk, so that nobody else can end a message. */
export const FINAL = utf8('final');
export const NOT_FINAL: Bytes = new Uint8Array();

/** The last chunk's length is 0: it goes on to the end of the stream. */
export const framed = (sealed: Uint8Array, isFinal: boolean): Bytes =>
  concat(varint(isFinal ? 0 : sealed.length), sealed);

/** Cuts what was said into chunks: at least one, the last of which is final. */
export function* cutIntoChunks(bytes: Uint8Array): Generator<[chunk: Bytes, isFinal: boolean]> {
  let offset = 0;
  for (; bytes.length - offset > CHUNK_BYTES_MAX; offset += CHUNK_BYTES_MAX) {
    yield [bytes.slice(offset, offset + CHUNK_BYTES_MAX) as Bytes, false];
  }
  yield [bytes.slice(offset) as Bytes, true];
}

export interface SealedChunk {
  readonly sealed: Bytes;
  readonly isFinal: boolean;
}

/** Finds the chunks in a stream as it comes. Keeps less than two chunks. */
export class ChunkSplitter {
  #kept: Bytes = new Uint8Array();

  /** What is whole by now. Throws EnvelopeError 'too-large'. */
  *push(bytes: Uint8Array): Generator<SealedChunk> {
    const all = concat(this.#kept, bytes);
    let offset = 0;
    for (;;) {
      const next = chunkAt(all.subarray(offset));
      if (next === null) break;
      offset += next.bytes;
      yield { sealed: next.sealed, isFinal: false };
    }
    this.#kept = all.slice(offset);
    // The final chunk, too, is bounded.
    if (this.#kept.length > SEALED_BYTES_MAX + LENGTH_BYTES_MAX) throw tooLarge();
  }

  /** The final chunk: what is left at the stream's end. Throws EnvelopeError 'truncated'. */
  end(): SealedChunk {
    const reader = new ByteReader(this.#kept);
    if (reader.rest === 0 || reader.varint() !== 0) {
      throw new EnvelopeError('truncated', 'it ends before its final part');
    }
    return { sealed: reader.take(reader.rest), isFinal: true };
  }
}

/** A chunk that is not the last, and how many bytes it takes; null: more must come first. */
function chunkAt(bytes: Uint8Array): { readonly sealed: Bytes; readonly bytes: number } | null {
  const first = bytes[0];
  if (first === undefined || bytes.length < 1 << (first >> 6)) return null;
  const reader = new ByteReader(bytes);
  const length = reader.varint();
  if (length > SEALED_BYTES_MAX) throw tooLarge();
  if (length === 0 || reader.rest < length) return null;
  return { sealed: reader.take(length), bytes: reader.offset };
}

const SEALED_BYTES_MAX = CHUNK_BYTES_MAX + TAG_BYTES;
const LENGTH_BYTES_MAX = 8;

const tooLarge = () => new EnvelopeError('too-large', `a part over ${CHUNK_BYTES_MAX} bytes`);
