import { buildVocabulary, hash32, type Vocabulary } from '@bridgekeeper/device';

/** Of a hundred tokens of a large multilingual vocabulary, roughly: where their characters are. */
const SCRIPTS: readonly (readonly [below: number, script: (draw: number) => string])[] = [
  [58, (draw) => String.fromCharCode(0x61 + (draw % 26))],
  [66, (draw) => String.fromCharCode(0x41 + (draw % 26))],
  [76, (draw) => '"{}[]()<>:;,.!?=+-*/\\\'_#&|@$%^~`\n\t'[draw % 34]!],
  [78, (draw) => String.fromCharCode(0x30 + (draw % 10))],
  [88, (draw) => String.fromCodePoint(0x400 + (draw % 96))],
  [98, (draw) => String.fromCodePoint(0x4e00 + (draw % 20000))],
  [100, (draw) => String.fromCodePoint(0x1f300 + (draw % 256))],
];

/** The last ids. */
const CONTROL_TOKENS = 300;

/**
 * As many tokens as the model has, whose bytes are made up: each of the 256 bytes, then pieces of
 * words of several scripts, two thirds of them with a space before. Lengths are those of large
 * byte-level vocabularies: 6 to 7 bytes on average. The last 300 ids are control tokens.
 */
export function madeUpVocabulary(size: number): Vocabulary {
  const control = new Set(Array.from({ length: CONTROL_TOKENS }, (_, at) => size - 1 - at));
  const encoder = new TextEncoder();
  return buildVocabulary(
    size,
    (id) => (id < 256 ? Uint8Array.of(id) : encoder.encode(textOf(id))),
    control,
  );
}

/** The same tokens as vocabularies with byte fallback write them; control tokens have no text. */
export function byteFallbackTokens(size: number): string[] {
  return Array.from({ length: size }, (_, id) => {
    if (id >= size - CONTROL_TOKENS) return '';
    return id < 256 ? `<0x${id.toString(16).padStart(2, '0').toUpperCase()}>` : textOf(id);
  });
}

function textOf(id: number): string {
  const draw = (at: number) => hash32(id, 21, at) >>> 0;
  const share = draw(0) % 100;
  const [, script] = SCRIPTS.find(([below]) => share < below)!;
  const isWide = share >= 78;
  const most = isWide ? 4 : share >= 66 ? 5 : 11;
  const length = 1 + (draw(1) % most);
  const characters = Array.from({ length }, (_, at) => script(draw(2 + at)));
  const space = !isWide && share < 66 && draw(99) % 3 > 0 ? ' ' : '';
  return space + characters.join('');
}
