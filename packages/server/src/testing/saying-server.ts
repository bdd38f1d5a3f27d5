import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTokenizer } from '@bridgekeeper/engine/text';
import { SETTINGS } from '../settings/table.ts';
import { startTestServer, type TestServer } from './test-server.ts';

/** A template like Qwen3's: its tags say how the model writes reasoning and calls. */
const TEMPLATE =
  '{% for message in messages %}<|im_start|>{{ message.role }}\n' +
  '{% if message.reasoning_content %}<think>{{ message.reasoning_content }}</think>{% endif %}' +
  '{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>' +
  '{{ call.function.arguments|tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}' +
  '{% if tools %}{{ tools|tojson }}{% endif %}<|im_start|>assistant\n' +
  '{% if enable_thinking %}<think>\n{% endif %}';
const TAGS = ['<|im_start|>', '<|im_end|>', '<tool_call>', '</tool_call>', '<think>', '</think>'];

/**
 * The real server, whose model says what `answer` makes of the prompt's text, and then ends. It
 * writes calls in tags, and its tags are tokens.
 */
export async function startSayingServer(answer: (prompt: string) => string): Promise<TestServer> {
  const model = await mkdtemp(join(tmpdir(), 'bridgekeeper-saying-'));
  for (const name of ['config.json', 'generation_config.json', 'tokenizer_config.json']) {
    await cp(join(SETTINGS.model.default, name), join(model, name));
  }
  const tokenizerJson = JSON.parse(
    await readFile(join(SETTINGS.model.default, 'tokenizer.json'), 'utf8'),
  );
  TAGS.forEach((content, at) => {
    const matching = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    const special = content.startsWith('<|');
    tokenizerJson.added_tokens.push({ id: 4096 + at, content, special, ...matching });
  });
  await writeFile(join(model, 'tokenizer.json'), JSON.stringify(tokenizerJson));
  await writeFile(join(model, 'chat_template.jinja'), TEMPLATE);
  const tokenizer = await openTokenizer(model);
  const script = ({ promptTokens }: { readonly promptTokens: Uint32Array }, at: number) =>
    tokenizer.encode(answer(tokenizer.decode(promptTokens, false)), false)[at] ?? 0;
  const card = { vocabularySize: 4096 + TAGS.length, maxModelTokens: 2048, grammarBytes: 2 ** 20 };
  const server = await startTestServer({ script, card }, { model, servedModelName: ['saying'] });
  const stop = async (graceSeconds: number) => {
    await server.stop(graceSeconds);
    await rm(model, { recursive: true });
  };
  return { ...server, stop };
}
