import { mix32 } from './random.ts';

const WORD_BYTES = 4;
/** 2^32 over the golden ratio: neighbouring indices differ in all their bits. */
const INDEX_STEP = 0x9e3779b9;
/** How much is copied at once where words do not start at multiples of their size. */
const CHUNK_BYTES = 65_536;

/**
 * Two sums, modulo 2^32, over the little-endian words of `bytes`, the last one padded with zeros:
 * w[i] * (2 i + 1), and mix32(w[i] ^ i * 0x9e3779b9), with i counted from `firstWord` modulo 2^32.
 * The sums of parts that start at whole words add up to those of the whole.
 */
export function checksumOf(bytes: Uint8Array, firstWord = 0): [number, number] {
  const sums = new Uint32Array(2);
  for (let from = 0; from < bytes.length; from += CHUNK_BYTES) {
    addWords(
      wordsOf(bytes.subarray(from, from + CHUNK_BYTES)),
      firstWord + from / WORD_BYTES,
      sums,
    );
  }
  return [sums[0]!, sums[1]!];
}

/** All integers here have 32 bits, and overflow: that is what is quick. */
function addWords(words: Int32Array, first: number, sums: Uint32Array): void {
  let index = first | 0;
  let low = 0;
  let high = 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    low = (low + Math.imul(word, (index << 1) | 1)) | 0;
    high = (high + mix32(word ^ Math.imul(index, INDEX_STEP))) | 0;
    index = (index + 1) | 0;
  }
  sums[0]! += low;
  sums[1]! += high;
}

/** The words of a chunk: in place where they are aligned and whole, else a padded copy. */
function wordsOf(chunk: Uint8Array): Int32Array {
  const count = Math.ceil(chunk.length / WORD_BYTES);
  const isInPlace = chunk.byteOffset % WORD_BYTES === 0 && chunk.length % WORD_BYTES === 0;
  if (isInPlace) return new Int32Array(chunk.buffer, chunk.byteOffset, count);
  const words = new Int32Array(count);
  new Uint8Array(words.buffer).set(chunk);
  return words;
}
