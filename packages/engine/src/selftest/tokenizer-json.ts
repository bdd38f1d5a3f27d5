/** A small tokenizer: every byte can be written, so any text round-trips. */

export const SPECIAL_TOKENS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'] as const;

/** Ids of `byteLevelTokenizer`: the special tokens, then the 256 bytes, then a few merges. */
export const BYTE_LEVEL_SIZE = SPECIAL_TOKENS.length + 256 + 3;

/** An entry of `added_tokens`. */
export function addedToken(content: string, id: number) {
  const matching = { single_word: false, lstrip: false, rstrip: false, normalized: false };
  return { id, content, ...matching, special: true };
}

function byteAlphabet(): string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const prints = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(prints ? byte : next++);
  });
}

/** tokenizer.json of a byte-level BPE (GPT-2, Llama 3, Qwen) with three merges. */
export function byteLevelTokenizer(): Record<string, unknown> {
  const merges = ['t h', 'th e', 'i n'];
  const strings = [...SPECIAL_TOKENS, ...byteAlphabet(), 'th', 'the', 'in'];
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map(addedToken),
    normalizer: null,
    pre_tokenizer: { ...byteLevel, use_regex: true },
    post_processor: null,
    decoder: { ...byteLevel, use_regex: true },
    model: {
      type: 'BPE',
      unk_token: null,
      byte_fallback: false,
      vocab: Object.fromEntries(strings.map((string, id) => [string, id])),
      merges,
    },
  };
}
