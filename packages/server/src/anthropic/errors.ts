import type { ApiError } from '../http/errors.ts';

/** Anthropic's types, by status; its clients switch on these. */
const TYPES: Readonly<Record<number, string>> = {
  400: 'invalid_request_error',
  401: 'authentication_error',
  403: 'permission_error',
  404: 'not_found_error',
  405: 'invalid_request_error',
  413: 'request_too_large',
  415: 'invalid_request_error',
  429: 'rate_limit_error',
  503: 'overloaded_error',
};

/** Whether a path is of Anthropic's API, whose errors have a form of their own. */
export function isAnthropicPath(path: string): boolean {
  return path === '/v1/messages' || path.startsWith('/v1/messages/');
}

/** An error as Anthropic's clients read it. */
export function messageError({ status, message }: ApiError, requestId: string) {
  const type = TYPES[status] ?? 'api_error';
  return { type: 'error', error: { type, message }, request_id: requestId };
}
