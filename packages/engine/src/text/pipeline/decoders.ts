import type { ConfigReader } from '../../models/config-reader.ts';
import { decodeExactly, decodeUtf8, encodeUtf8, REPLACEMENT } from '../utf8.ts';
import { patternOf } from './patterns.ts';
import { BYTE_OF, stepsOf, unsupportedStep } from './steps.ts';

/** Tokens' strings to pieces of text, which together are the text. */
export type Decode = (tokens: readonly string[]) => string[];

/** The bytes of a token's string in byte-level BPE. */
export function byteLevelBytes(token: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of token) {
    const byte = BYTE_OF.get(character);
    // A string outside the alphabet stands for itself, as in the reference implementation.
    if (byte === undefined) return encodeUtf8(token);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

const BYTE_TOKEN = /^<0x([0-9A-Fa-f]{2})>$/;

/** The byte that `<0x0A>` stands for. */
export function byteOfToken(token: string): number | undefined {
  const byte = BYTE_TOKEN.exec(token)?.[1];
  return byte === undefined ? undefined : Number.parseInt(byte, 16);
}

function byteFallback(tokens: readonly string[]): string[] {
  const pieces: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    const text = decodeExactly(Uint8Array.from(bytes));
    if (bytes.length > 0) pieces.push(text ?? REPLACEMENT.repeat(bytes.length));
    bytes = [];
  };
  for (const token of tokens) {
    const byte = byteOfToken(token);
    if (byte !== undefined) bytes.push(byte);
    else {
      flush();
      pieces.push(token);
    }
  }
  flush();
  return pieces;
}

const CLEANUPS = [
  ...[' .', ' ?', ' !', ' ,'].map((from) => [from, from.slice(1)] as const),
  [" ' ", "'"] as const,
  [" n't", "n't"] as const,
  [" 'm", "'m"] as const,
  [' do not', " don't"] as const,
  ...[" 's", " 've", " 're"].map((from) => [from, from.slice(1)] as const),
];

function cleanedUp(text: string): string {
  return CLEANUPS.reduce((result, [from, to]) => result.replaceAll(from, to), text);
}

function wordPiece(step: ConfigReader): Decode {
  const prefix = step.text('prefix', '##');
  const cleans = step.boolean('cleanup', true);
  return (tokens) =>
    tokens.map((token, index) => {
      const goesOn = token.startsWith(prefix);
      const piece = index === 0 ? token : goesOn ? token.slice(prefix.length) : ` ${token}`;
      return cleans ? cleanedUp(piece) : piece;
    });
}

function metaspace(step: ConfigReader): Decode {
  const mark = step.text('replacement', '\u2581');
  const strips = step.get('prepend_scheme') !== 'never' && step.boolean('add_prefix_space', true);
  return (tokens) =>
    tokens.map((token, index) => token.replaceAll(mark, index === 0 && strips ? '' : ' '));
}

function ctc(step: ConfigReader): Decode {
  const pad = step.text('pad_token', '<pad>');
  const delimiter = step.text('word_delimiter_token', '|');
  const cleans = step.boolean('cleanup', true);
  return (tokens) =>
    tokens
      .filter((token, index) => token !== tokens[index - 1])
      .map((token) => token.replaceAll(pad, ''))
      .map((token) => (cleans ? cleanedUp(token).replaceAll(delimiter, ' ') : token))
      .filter((token) => token !== '');
}

function strip(step: ConfigReader): Decode {
  const content = step.text('content');
  const start = step.integer('start', 0, 0);
  const stop = step.integer('stop', 0, 0);
  return (tokens) =>
    tokens.map((token) => {
      const characters = Array.from(token);
      let from = 0;
      while (from < start && characters[from] === content) from += 1;
      let to = characters.length;
      while (to > from && characters.length - to < stop && characters[to - 1] === content) to -= 1;
      return characters.slice(from, to).join('');
    });
}

/** The function of tokenizer.json's `decoder`. Throws ModelError. */
export function decoderOf(step: ConfigReader | undefined): Decode {
  // Without a decoder, tokens are words.
  if (step === undefined) return (tokens) => [tokens.join(' ')];
  switch (step.get('type')) {
    case 'Sequence': {
      const steps = stepsOf(step, 'decoders').map(decoderOf);
      return (tokens) => steps.reduce((pieces, decode) => decode(pieces), [...tokens]);
    }
    case 'ByteLevel':
      return (tokens) => {
        const bytes = tokens.map((token) => byteLevelBytes(token));
        return [decodeUtf8(Buffer.concat(bytes))];
      };
    case 'WordPiece':
      return wordPiece(step);
    case 'Metaspace':
      return metaspace(step);
    case 'BPEDecoder': {
      const suffix = step.text('suffix', '</w>');
      return (tokens) =>
        tokens.map((token, at) => token.replaceAll(suffix, at === tokens.length - 1 ? '' : ' '));
    }
    case 'CTC':
      return ctc(step);
    case 'Replace': {
      const pattern = patternOf(step);
      const content = step.text('content');
      return (tokens) => tokens.map((token) => token.replace(pattern, () => content));
    }
    case 'Fuse':
      return (tokens) => [tokens.join('')];
    case 'Strip':
      return strip(step);
    case 'ByteFallback':
      return byteFallback;
    default:
      throw unsupportedStep(step);
  }
}
