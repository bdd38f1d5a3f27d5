import type { ConfigReader } from '../../models/config-reader.ts';
import { decodeExactly, encodeUtf8 } from '../utf8.ts';

/**
 * SentencePiece's character map: a double-array trie (Darts-clone's format) from UTF-8 to places in
 * a list of texts, each ending in a zero byte.
 */
class CharacterMap {
  readonly #units: Uint32Array;
  readonly #texts: Uint8Array;

  constructor(units: Uint32Array, texts: Uint8Array) {
    this.#units = units;
    this.#texts = texts;
  }

  /** What stands for `text`, by its shortest prefix as in the reference; undefined: itself. */
  replacementOf(text: string): string | undefined {
    const units = this.#units;
    let at = offsetOf(units[0] ?? 0);
    for (const byte of encodeUtf8(text)) {
      if (byte === 0) return undefined;
      at ^= byte;
      const unit = units[at] ?? 0;
      if ((unit & LABEL_BITS) >>> 0 !== byte) return undefined;
      at ^= offsetOf(unit);
      if ((unit & LEAF_BIT) !== 0) return this.#textAt((units[at] ?? 0) & VALUE_BITS);
    }
    return undefined;
  }

  #textAt(start: number): string | undefined {
    const end = this.#texts.indexOf(0, start);
    return end < 0 ? undefined : decodeExactly(this.#texts.subarray(start, end));
  }
}

const LEAF_BIT = 1 << 8;
const LABEL_BITS = (1 << 31) | 0xff;
const VALUE_BITS = 0x7fffffff;

/** Where a unit's children are: 22 bits, in steps of 256 where a bit says so. */
function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & (1 << 9)) >>> 6);
}

function characterMapOf(step: ConfigReader): CharacterMap {
  const bytes = Buffer.from(step.text('precompiled_charsmap'), 'base64');
  const size = bytes.length < 4 ? -1 : bytes.readUInt32LE(0);
  if (size < 4 || size % 4 !== 0 || 4 + size > bytes.length) {
    throw step.error('malformed', 'precompiled_charsmap', 'is no character map of SentencePiece');
  }
  const units = Uint32Array.from({ length: size / 4 }, (_, i) => bytes.readUInt32LE(4 + 4 * i));
  return new CharacterMap(units, bytes.subarray(4 + size));
}

/** Longer graphemes, in bytes of UTF-8, are replaced character by character. */
const LONGEST_GRAPHEME = 5;

/** The function of a normalizer of type Precompiled. Throws ModelError. */
export function precompiled(step: ConfigReader): (text: string) => string {
  const map = characterMapOf(step);
  const graphemes = new Intl.Segmenter('und', { granularity: 'grapheme' });
  return (text) => {
    let result = '';
    for (const { segment } of graphemes.segment(text)) {
      const isShort = encodeUtf8(segment).length <= LONGEST_GRAPHEME;
      const whole = isShort ? map.replacementOf(segment) : undefined;
      if (whole !== undefined) {
        result += whole;
        continue;
      }
      for (const character of segment) result += map.replacementOf(character) ?? character;
    }
    return result;
  };
}
