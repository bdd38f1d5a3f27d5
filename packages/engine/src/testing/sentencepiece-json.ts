import { addedToken } from '../selftest/tokenizer-json.ts';

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
    added_tokens: ['<unk>', '<s>', '</s>'].map(addedToken),
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
