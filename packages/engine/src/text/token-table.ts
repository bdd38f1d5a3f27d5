import { byteLevelBytes, byteOfToken } from './pipeline/decoders.ts';
import { decodeExactly, encodeUtf8 } from './utf8.ts';

/** What a table needs to know of a vocabulary. */
export interface Vocabulary {
  /** The token's string in tokenizer.json, or undefined where the id has none. */
  tokenString(id: number): string | undefined;
  /** Contents of added tokens: their strings are text already. */
  readonly addedContents: ReadonlySet<string>;
}

/** Spaces that decoders remove from the start of a whole text. */
export interface LeadingStrip {
  readonly content: string;
  readonly count: number;
}

/** A decoder that maps each token to bytes on its own, apart from a strip at the text's start. */
export interface TableDecoder {
  readonly bytesOf: (token: string, added: boolean) => Uint8Array;
  readonly strip: LeadingStrip | undefined;
}

function byteLevelText(token: string, added: boolean): Uint8Array {
  return added ? encodeUtf8(token) : byteLevelBytes(token);
}

interface DecoderJson {
  readonly type?: unknown;
  readonly decoders?: readonly DecoderJson[];
  readonly pattern?: { readonly String?: unknown };
  readonly content?: unknown;
  readonly replacement?: unknown;
  readonly prepend_scheme?: unknown;
  readonly add_prefix_space?: unknown;
  readonly start?: unknown;
  readonly stop?: unknown;
}

/**
 * SentencePiece's steps in the order they must have for a table: replace strings, bytes, fuse,
 * strip the start.
 */
function sentencePieceDecoder(steps: readonly DecoderJson[]): TableDecoder | undefined {
  const replacements: { readonly from: string; readonly to: string }[] = [];
  let hasBytes = false;
  let fused = false;
  let strip: LeadingStrip | undefined;
  for (const step of steps) {
    const { type, content } = step;
    if (type === 'Replace' && !hasBytes && !fused) {
      const from = step.pattern?.String;
      if (typeof from !== 'string' || typeof content !== 'string') return undefined;
      replacements.push({ from, to: content });
    } else if (type === 'ByteFallback' && !hasBytes && !fused) {
      hasBytes = true;
    } else if (type === 'Fuse') {
      fused = true;
    } else if (type === 'Strip' && fused && strip === undefined && (step.stop ?? 0) === 0) {
      if (typeof content !== 'string' || typeof step.start !== 'number') return undefined;
      strip = { content, count: step.start };
    } else {
      return undefined;
    }
  }
  const bytesOf = (token: string) => {
    let text = token;
    for (const { from, to } of replacements) text = text.replaceAll(from, () => to);
    const byte = hasBytes ? byteOfToken(text) : undefined;
    return byte === undefined ? encodeUtf8(text) : Uint8Array.of(byte);
  };
  return { bytesOf, strip };
}

/**
 * The table form of tokenizer.json's `decoder`, or undefined where tokens do not decode one by one.
 */
export function tableDecoder(decoder: unknown): TableDecoder | undefined {
  if (typeof decoder !== 'object' || decoder === null) return undefined;
  const json = decoder as DecoderJson;
  switch (json.type) {
    case 'ByteLevel':
      return { bytesOf: byteLevelText, strip: undefined };
    case 'Metaspace': {
      const replacement = typeof json.replacement === 'string' ? json.replacement : '\u2581';
      const bytesOf = (token: string) => encodeUtf8(token.replaceAll(replacement, ' '));
      const strips = json.prepend_scheme !== 'never' && json.add_prefix_space !== false;
      return { bytesOf, strip: strips ? { content: ' ', count: 1 } : undefined };
    }
    case 'Sequence':
      return sentencePieceDecoder(json.decoders ?? []);
    default:
      return undefined;
  }
}

const NO_BYTES = new Uint8Array(0);

/**
 * Token ids to bytes and, where these are whole characters, to text. Filled as ids are asked for.
 */
export class TokenTable {
  readonly strip: LeadingStrip | undefined;
  readonly #vocabulary: Vocabulary;
  readonly #decoder: TableDecoder;
  readonly #bytes: (Uint8Array | undefined)[] = [];
  /** null: not well-formed UTF-8 on its own. */
  readonly #texts: (string | null | undefined)[] = [];

  constructor(vocabulary: Vocabulary, decoder: TableDecoder) {
    this.#vocabulary = vocabulary;
    this.#decoder = decoder;
    this.strip = decoder.strip;
  }

  /** The token's bytes; none for an id without a string. Not to be changed. */
  bytes(id: number): Uint8Array {
    return this.#bytes[id] ?? this.#fill(id);
  }

  /** The token's text, or null when its bytes are not whole characters. */
  text(id: number): string | null {
    const known = this.#texts[id];
    if (known !== undefined) return known;
    const bytes = this.bytes(id);
    if (this.#bytes[id] === undefined) return '';
    const text = decodeExactly(bytes) ?? null;
    this.#texts[id] = text;
    return text;
  }

  /** A start wants the bytes of all tokens, and an answer the texts of few. */
  #fill(id: number): Uint8Array {
    const token = this.#vocabulary.tokenString(id);
    // Ids come from outside: only those of the vocabulary may take memory.
    if (token === undefined) return NO_BYTES;
    const added = this.#vocabulary.addedContents.has(token);
    const bytes = this.#decoder.bytesOf(token, added);
    this.#bytes[id] = bytes;
    return bytes;
  }
}
