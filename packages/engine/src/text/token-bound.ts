import { encodeUtf8 } from './utf8.ts';

/**
 * How many bytes of text one token can stand for. The server uses it to refuse a text that cannot
 * fit the context without encoding it. Only promised where no step of the tokenizer drops text.
 */

interface Step {
  readonly type?: unknown;
  readonly normalizers?: readonly Step[];
  readonly pretokenizers?: readonly Step[];
  readonly pattern?: { readonly String?: unknown };
  readonly content?: unknown;
  readonly behavior?: unknown;
}

function bytesOf(value: unknown): number | undefined {
  return typeof value === 'string' ? encodeUtf8(value).length : undefined;
}

/** By which factor a normalizer may shrink text; infinite when it may drop any of it. */
function normalizerShrink(step: Step | null | undefined): number {
  if (step === null || step === undefined) return 1;
  switch (step.type) {
    case 'Prepend':
      return 1;
    case 'NFC':
      // Iota with dialytika and tonos, six bytes apart and two composed, is among the worst.
      return 3;
    case 'Replace': {
      const from = bytesOf(step.pattern?.String);
      const to = bytesOf(step.content);
      return from !== undefined && to !== undefined && to >= from ? 1 : Number.POSITIVE_INFINITY;
    }
    case 'Sequence':
      return (step.normalizers ?? []).reduce((all, one) => all * normalizerShrink(one), 1);
    default:
      return Number.POSITIVE_INFINITY;
  }
}

function preTokenizerKeeps(step: Step | null | undefined): boolean {
  if (step === null || step === undefined) return true;
  switch (step.type) {
    case 'ByteLevel':
    case 'Metaspace':
    case 'Digits':
      return true;
    case 'Split':
      return step.behavior !== 'Removed';
    case 'Sequence':
      return (step.pretokenizers ?? []).every(preTokenizerKeeps);
    default:
      return false;
  }
}

/**
 * The bound for tokenizer.json's contents, whose vocabulary with added tokens is `tokens`; infinite
 * where none can be promised.
 */
export function maxTokenBytes(
  tokenizer: Readonly<Record<string, unknown>>,
  tokens: readonly (string | undefined)[],
): number {
  const json = tokenizer as {
    readonly normalizer?: Step | null;
    readonly pre_tokenizer?: Step | null;
    readonly decoder?: Step | null;
    readonly model?: { readonly byte_fallback?: unknown };
    readonly added_tokens?: readonly { readonly lstrip?: boolean; readonly rstrip?: boolean }[];
  };
  const coversAllBytes = json.decoder?.type === 'ByteLevel' || json.model?.byte_fallback === true;
  const swallows = (json.added_tokens ?? []).some((token) => token.lstrip || token.rstrip);
  if (!coversAllBytes || swallows || !preTokenizerKeeps(json.pre_tokenizer)) {
    return Number.POSITIVE_INFINITY;
  }
  // A byte of text takes a character or more in a token's string, so that the string's bytes bound
  // it.
  let longest = 1;
  for (const token of tokens) longest = Math.max(longest, bytesOf(token) ?? 0);
  return longest * normalizerShrink(json.normalizer);
}
