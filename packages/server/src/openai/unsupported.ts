import { ApiError } from '../http/errors.ts';

type Body = Readonly<Record<string, unknown>>;

const given = (value: unknown) => value !== undefined && value !== null && value !== false;

/** What would change the answer and cannot be honoured here: refused plainly, not ignored. */
const UNSUPPORTED: readonly {
  readonly param: string;
  readonly why: string;
  readonly asks: (body: Body) => boolean;
}[] = [
  {
    param: 'response_format',
    why: 'only type "text" is available',
    asks: ({ response_format: format }) =>
      given(format) && (format as { type?: unknown }).type !== 'text',
  },
  {
    param: 'tool_choice',
    why: 'tool calls are not parsed, so only "auto" and "none" are available',
    asks: ({ tool_choice: choice }) => given(choice) && choice !== 'auto' && choice !== 'none',
  },
  {
    param: 'best_of',
    why: 'it may not exceed n',
    asks: ({ best_of: bestOf, n }) => given(bestOf) && Number(bestOf) > Number(n ?? 1),
  },
  {
    param: 'chat_template',
    why: "only the model's own template is run",
    asks: ({ chat_template: template }) => given(template),
  },
  ...[
    'suffix',
    'use_beam_search',
    'structured_outputs',
    'guided_json',
    'guided_regex',
    'guided_choice',
    'guided_grammar',
    'continue_final_message',
    'prompt_embeds',
    'truncate_prompt_tokens',
  ].map((param) => ({
    param,
    why: 'this server does not offer it',
    asks: (body: Body) => given(body[param]) && body[param] !== '',
  })),
  {
    param: 'prompt_logprobs',
    why: 'ask /v1/completions with echo and logprobs',
    asks: (body) => given(body.prompt_logprobs),
  },
];

/** Throws ApiError `unsupported_value` for the first thing asked for that cannot be honoured. */
export function refuseUnsupported(body: unknown): void {
  if (typeof body !== 'object' || body === null) return;
  for (const { param, why, asks } of UNSUPPORTED) {
    if (asks(body as Body)) {
      throw new ApiError('unsupported_value', `${param} cannot be honoured: ${why}.`, param);
    }
  }
}
