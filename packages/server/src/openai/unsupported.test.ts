import { describe, expect, test } from 'vitest';
import { ApiError } from '../http/errors.ts';
import { refuseUnsupported } from './unsupported.ts';

function refusal(body: unknown): ApiError | undefined {
  try {
    refuseUnsupported(body);
  } catch (error) {
    if (error instanceof ApiError) return error;
    throw error;
  }
  return undefined;
}

describe('what would change an answer and cannot be honoured', () => {
  test.each([
    ['response_format', { type: 'json_object' }],
    ['response_format', 'json'],
    ['tool_choice', 'required'],
    ['tool_choice', { type: 'function' }],
    ['best_of', 2],
    ['chat_template', '{{ 1 }}'],
    ['chat_template', ''],
    ['suffix', 'end'],
    ['use_beam_search', true],
    ['structured_outputs', {}],
    ['guided_json', {}],
    ['guided_regex', '.'],
    ['guided_choice', []],
    ['guided_grammar', 'x'],
    ['continue_final_message', true],
    ['prompt_embeds', 'AAAA'],
    ['truncate_prompt_tokens', 5],
    ['prompt_logprobs', 0],
  ])('is refused by name: %s %o', (param, value) => {
    const error = refusal({ prompt: 'x', [param]: value });
    expect(error).toMatchObject({ code: 'unsupported_value', param });
    expect(error?.message).toMatch(new RegExp(`^${param} cannot be honoured: .+\\.$`));
  });

  test.each([
    ['response_format', { type: 'text' }],
    ['tool_choice', 'auto'],
    ['tool_choice', 'none'],
    ['best_of', 1],
    ['suffix', ''],
    ['guided_regex', ''],
  ])('is taken where it says what is done anyway: %s %o', (param, value) => {
    expect(refusal({ [param]: value })).toBeUndefined();
  });

  test.each(['response_format', 'tool_choice', 'best_of', 'chat_template', 'use_beam_search'])(
    'is taken where it says nothing: %s',
    (param) => {
      for (const nothing of [undefined, null, false]) {
        expect(refusal({ [param]: nothing })).toBeUndefined();
      }
    },
  );

  test('best_of may be as large as n', () => {
    expect(refusal({ best_of: 3, n: 3 })).toBeUndefined();
    expect(refusal({ best_of: 4, n: 3 })?.param).toBe('best_of');
    expect(refusal({ best_of: 2, n: null })?.param).toBe('best_of');
    expect(refusal({ best_of: null, n: -1 })).toBeUndefined();
  });

  test('is not looked for in what is no object', () => {
    for (const body of [null, undefined, 7, 'suffix']) expect(refusal(body)).toBeUndefined();
  });
});
