import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { ApiError } from '../http/errors.ts';
import { FIELDS, type Field, refuseFields, unknownFields } from './fields.ts';
import { ChatCompletionRequest } from './schema/chat.ts';
import { CompletionRequest } from './schema/completions.ts';

const PAGE = fileURLToPath(new URL('../../../../docs/reference/fields.md', import.meta.url));

const CHAT = new Set(Object.keys(ChatCompletionRequest.shape));
const COMPLETIONS = new Set(Object.keys(CompletionRequest.shape));
const NO_OTHERS = new Map<string, string>();

function refusal(body: Record<string, unknown>, others = NO_OTHERS): ApiError | undefined {
  try {
    refuseFields(body, CHAT, others);
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  return undefined;
}

describe('what would change an answer and cannot be honoured', () => {
  test.each([
    ['best_of', 2],
    ['chat_template', '{{ 1 }}'],
    ['chat_template', ''],
    ['suffix', 'end'],
    ['use_beam_search', true],
    ['prompt_embeds', 'AAAA'],
    ['separate_reasoning', false],
    ['stream_reasoning', false],
    ['reasoning_format', 'none'],
    ['priority', -1],
    ['logits_processors', ['x']],
    ['modalities', ['text', 'audio']],
    ['stop_regex', ['x']],
    ['n_predict', 8],
    ['repeat_penalty', 1],
    ['guided_whitespace_pattern', ' *'],
    ['grammar_lazy', true],
    ['mirostat', 2],
    ['samplers', []],
  ])('is refused by name: %s %o', (param, value) => {
    const error = refusal({ prompt: 'x', [param]: value });
    expect(error).toMatchObject({ code: 'unsupported_value', param });
    expect(error?.message).toMatch(new RegExp(`^${param} cannot be honoured: .+[^.]\\.$`));
  });

  test.each([
    ['separate_reasoning', true],
    ['stream_reasoning', true],
    ['reasoning_format', 'auto'],
    ['parse_tool_calls', true],
    ['best_of', 1],
    ['suffix', ''],
    ['use_beam_search', false],
    ['priority', 0],
    ['logits_processors', []],
    ['modalities', ['text']],
    ['mirostat', 0],
    ['typical_p', 1],
    ['top_n_sigma', -1],
  ])('is taken where it says what is done anyway: %s %o', (param, value) => {
    expect(refusal({ [param]: value })).toBeUndefined();
  });

  test('is taken where it is null, every field of the table', () => {
    for (const { name } of FIELDS) expect(refusal({ [name]: null })).toBeUndefined();
  });

  test('best_of may be as large as n', () => {
    expect(refusal({ best_of: 3, n: 3 })).toBeUndefined();
    expect(refusal({ best_of: 4, n: 3 })?.param).toBe('best_of');
    expect(refusal({ best_of: 2, n: null })?.param).toBe('best_of');
  });

  test('is refused where it is a field of another route', () => {
    const others = new Map([['suffixes', 'it is a field of /x']]);
    expect(refusal({ suffixes: 1 }, others)).toMatchObject({
      param: 'suffixes',
      message: 'suffixes cannot be honoured: it is a field of /x.',
    });
    expect(refusal({ suffixes: null }, others)).toBeUndefined();
  });
});

test('fields are unknown that neither a schema nor the table has, unless they say nothing', () => {
  const body = {
    messages: [],
    seed: 1,
    user: 'x',
    min_p: 0,
    temprature: 0,
    toString: 1,
    nul: null,
  };
  expect(unknownFields(body, CHAT)).toEqual(['temprature', 'toString']);
});

test('a field has one fate', () => {
  const names = FIELDS.map(({ name }) => name);
  expect(names.filter((name, at) => names.indexOf(name) !== at)).toEqual([]);
  expect(names.filter((name) => CHAT.has(name) || COMPLETIONS.has(name))).toEqual([]);
});

function acceptedWords({ accepted }: Field): string {
  if ('words' in accepted) return accepted.words;
  return accepted.map((value) => `\`${JSON.stringify(value)}\``).join(', ');
}

const list = (names: Iterable<string>) => [...names].map((name) => `\`${name}\``).join(', ');

function page(): string {
  const both = [...CHAT].filter((name) => COMPLETIONS.has(name)).sort();
  const only = (of: ReadonlySet<string>) => [...of].filter((name) => !both.includes(name)).sort();
  const row = (...cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const of = (fate: Field['fate']) => FIELDS.filter((field) => field.fate === fate);
  return [
    '# Fields of a request',
    '',
    'What this server makes of each field that clients of OpenAI, Anthropic, vLLM, SGLang and ' +
      'llama.cpp are known to send to `/v1/chat/completions` and `/v1/completions`. Made from ' +
      'the tables that check requests (`fields.ts` and `schema/` in ' +
      '`packages/server/src/openai`); a test holds this page to them, and writes it anew ' +
      'with `-u`: `npm test -- packages/server/dist/openai/fields -u`. Ranges and meanings are ' +
      'in [HTTP API](http.md).',
    '',
    'What would change the answer is honoured, or refused with `unsupported_value` and the ' +
      'field’s name. `null` is always taken, as if the field were not there. A field of the one ' +
      'route is refused by the other.',
    '',
    'A field that is on no list here is ignored: vLLM does so, and writes a line to its debug ' +
      'log; OpenAI refuses it. Ignoring keeps clients of other servers working; but it is never ' +
      'silent: the answer’s header `X-Ignored-Fields` names it, a misspelt one too, and the log ' +
      'has a warning, once for each name.',
    '',
    '## Honoured',
    '',
    `By both routes: ${list(both)}.`,
    '',
    `By \`/v1/chat/completions\`: ${list(only(CHAT))}.`,
    '',
    `By \`/v1/completions\`: ${list(only(COMPLETIONS))}.`,
    '',
    'The other routes take fewer, [each its own](http.md). `/v1/responses`, `/v1/messages`, ' +
      '`/v1/embeddings`, `/score` and `/rerank` make the same of all others as is said below, ' +
      'and refuse those above that they do not take.',
    '',
    '## Accepted, because no value changes the answer',
    '',
    row('field', 'of', 'why'),
    '|---|---|---|',
    ...of('harmless').map(({ name, origin, why }) => row(`\`${name}\``, origin, why)),
    '',
    '## Refused',
    '',
    row('field', 'of', 'why', 'taken all the same'),
    '|---|---|---|---|',
    ...of('refused').map((field) =>
      row(`\`${field.name}\``, field.origin, field.why, acceptedWords(field)),
    ),
    '',
    'Also refused by name, though honoured otherwise: `bad_words` of which one is not exactly ' +
      'one token of the model, `allowed_token_ids` of more than 300, `prompt_logprobs` with ' +
      '`stream`, and `documents` or `reasoning_effort` where the model’s chat template makes ' +
      'nothing of them.',
    '',
  ].join('\n');
}

test('fields.md is what the tables say', async () => {
  await expect(page()).toMatchFileSnapshot(PAGE);
});
