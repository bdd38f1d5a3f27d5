#!/bin/sh
# The same tokenizer.json means other tokens in @huggingface/tokenizers 0.2.0 (JavaScript) than in
# the Rust library (here @anush008/tokenizers 0.6.0, a binding to it), without an error:
# - the pre-tokenizer Digits splits at decimal digits only, in Rust at every numeric character, such
#   as the fraction one half or a Roman numeral;
# - Punctuation with behavior Isolated keeps a run of marks together; in Rust each stands alone.
# A model was trained on what the Rust library makes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --ignore-scripts @huggingface/tokenizers@0.2.0 @anush008/tokenizers@0.6.0 \
  >/dev/null
cat > compare.mjs <<'JS'
import { writeFileSync } from 'node:fs';
import { Tokenizer as Rust } from '@anush008/tokenizers';
import { Tokenizer } from '@huggingface/tokenizers';
const words = ['a', 'b', '!', '!!', 'a\u00bdb', '\u00bd', 'a\u2167b', '\u2167', 'UNK'];
const vocab = Object.fromEntries(words.map((word, id) => [word, id]));
const cases = [
  [{ type: 'Digits', individual_digits: false }, 'a\u00bdb'],
  [{ type: 'Digits', individual_digits: true }, 'a\u2167b'],
  [{ type: 'Punctuation', behavior: 'Isolated' }, 'a!!b'],
];
for (const [pre_tokenizer, text] of cases) {
  const file = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [],
    normalizer: null,
    pre_tokenizer,
    post_processor: null,
    decoder: null,
    model: { type: 'WordLevel', vocab, unk_token: 'UNK' },
  };
  writeFileSync('tokenizer.json', JSON.stringify(file));
  const javascript = new Tokenizer(file, {}).encode(text).tokens;
  const rust = (await Rust.fromFile('tokenizer.json').encode(text)).getTokens();
  console.log(`${pre_tokenizer.type}: ${javascript.length} and ${rust.length} tokens`);
}
JS
seen=$(node compare.mjs)
wanted='Digits: 1 and 3 tokens
Digits: 1 and 3 tokens
Punctuation: 3 and 4 tokens'
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo 'not what was found'; exit 1; }
