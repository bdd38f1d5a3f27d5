/** Small tokenizers for tests: every byte can be written, so any text round-trips. */

export const SPECIAL_TOKENS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'] as const;

/** Ids of `byteLevelTokenizer`: the special tokens, then the 256 bytes, then a few merges. */
export const BYTE_LEVEL_SIZE = SPECIAL_TOKENS.length + 256 + 3;

function added(content: string, id: number) {
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
    added_tokens: SPECIAL_TOKENS.map(added),
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

/**
 * tokenizer.json as converted from SentencePiece (Llama 2, Mistral): metaspace, byte fallback, BOS
 * in front.
 */
export function sentencePieceTokenizer(): Record<string, unknown> {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const letters = '\u2581abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,!?é漢'.split('');
  const merges = [
    ['\u2581', 't'],
    ['h', 'e'],
    ['\u2581t', 'he'],
    ['\u2581', '\u2581'],
  ];
  const merged = merges.map((pair) => pair.join(''));
  const strings = ['<unk>', '<s>', '</s>', ...bytes, ...letters, ...merged];
  const bos = { SpecialToken: { id: '<s>', type_id: 0 } };
  const sequence = (id: string) => ({ Sequence: { id, type_id: id === 'A' ? 0 : 1 } });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: ['<unk>', '<s>', '</s>'].map(added),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '\u2581' },
        { type: 'Replace', pattern: { String: ' ' }, content: '\u2581' },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [bos, sequence('A')],
      pair: [bos, sequence('A'), bos, sequence('B')],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      unk_token: '<unk>',
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(strings.map((string, id) => [string, id])),
      merges,
    },
  };
}
