import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openTokenizer, type Tokenizer } from '@bridgekeeper/engine/text';
import { SETTINGS, type Settings } from '../settings/table.ts';
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

/** The first token of the tags: those of the bundled model are before it. */
export const FIRST_TAG = 4096;

export interface SayingServer extends TestServer {
  /** Knows the tags. */
  readonly tokenizer: Tokenizer;
}

/** How another model writes: its chat template, and what is a token to it besides. */
export interface Manner {
  readonly template: string;
  readonly tags: readonly string[];
}

/**
 * The real server, whose model says `answer`, or what that makes of the prompt's text, and then
 * ends. Without a manner of its own it writes calls in tags as Qwen3 does, and reasoning.
 */
export async function startSayingServer(
  answer: string | ((prompt: string) => string),
  changes: Partial<Settings> = {},
  { template, tags }: Manner = { template: TEMPLATE, tags: TAGS },
): Promise<SayingServer> {
  const model = await modelWith(template, tags);
  const tokenizer = await openTokenizer(model);
  const textFor = (prompt: Uint32Array) =>
    typeof answer === 'string' ? answer : answer(tokenizer.decode(prompt, false));
  const script = ({ promptTokens }: { readonly promptTokens: Uint32Array }, at: number) =>
    tokenizer.encode(textFor(promptTokens), false)[at] ?? 0;
  const vocabularySize = FIRST_TAG + tags.length;
  const card = { vocabularySize, maxModelTokens: 2048, grammarBytes: 2 ** 20 };
  const settings = { model, servedModelName: ['saying'], ...changes };
  const server = await startTestServer({ script, card }, settings);
  const stop = async (graceSeconds: number) => {
    await server.stop(graceSeconds);
    await rm(model, { recursive: true });
  };
  return { ...server, stop, tokenizer };
}

/** A folder with the bundled model's files, another template, and tags that are tokens. */
async function modelWith(template: string, tags: readonly string[]): Promise<string> {
  const model = await mkdtemp(join(tmpdir(), 'bridgekeeper-saying-'));
  for (const name of ['config.json', 'generation_config.json', 'tokenizer_config.json']) {
    await cp(join(SETTINGS.model.default, name), join(model, name));
  }
  const tokenizerJson = JSON.parse(
    await readFile(join(SETTINGS.model.default, 'tokenizer.json'), 'utf8'),
  );
  tags.forEach((content, at) => {
    const matching = { single_word: false, lstrip: false, rstrip: false, normalized: false };
    const special = content.startsWith('<|');
    tokenizerJson.added_tokens.push({ id: FIRST_TAG + at, content, special, ...matching });
  });
  await writeFile(join(model, 'tokenizer.json'), JSON.stringify(tokenizerJson));
  await writeFile(join(model, 'chat_template.jinja'), template);
  return model;
}
