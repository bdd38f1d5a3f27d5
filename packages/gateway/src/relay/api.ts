import { type ApiError, isAnthropicPath, messageError } from '@bridgekeeper/server/edge';

/** Whose form a stream's events have. */
export type Api = 'openai' | 'responses' | 'anthropic';

export function apiOf(path: string): Api {
  if (isAnthropicPath(path)) return 'anthropic';
  return path === '/v1/responses' || path.startsWith('/v1/responses/') ? 'responses' : 'openai';
}

/** An error as a whole answer. */
export function errorBody(api: Api, error: ApiError, requestId: string): object {
  return api === 'anthropic' ? messageError(error, requestId) : error.body;
}

/** The end of a stream of events that failed after `events` of them, as its API has it. */
export function errorEvents(api: Api, error: ApiError, requestId: string, events: number): string {
  switch (api) {
    case 'openai':
      return `data: ${JSON.stringify(error.body)}\n\ndata: [DONE]\n\n`;
    case 'anthropic':
      return `event: error\ndata: ${JSON.stringify(messageError(error, requestId))}\n\n`;
    case 'responses': {
      const { code, message } = error;
      const event = { type: 'error', code, message, param: null, sequence_number: events };
      return `event: error\ndata: ${JSON.stringify(event)}\n\n`;
    }
  }
}

/**
 * Events with which streams begin before there is a token: `response.created` and the like, and
 * comments.
 */
const BEFORE_TOKENS =
  /^(?::|event: (?:response\.(?:created|queued|in_progress)|message_start|ping)\r?\n)/;

/** Whether a whole event says something of the answer itself. */
export function hasToken(event: string): boolean {
  return !BEFORE_TOKENS.test(event);
}
