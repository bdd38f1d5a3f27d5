import { ApiError } from '../http/errors.ts';

/** How many there may be in one body. */
export const BODY_COUNTS = {
  /** Above the turns of any conversation that a context holds with more than a few words each. */
  messages: 4096,
  /** Parts of content and tool calls, of all messages. */
  parts: 8192,
  tools: 1024,
  /** OpenAI takes 4. */
  stops: 64,
  /** UTF-16 units of all together: every choice has a table of them. */
  stopCharacters: 4096,
  /** The engine takes fewer, and says how many. */
  tokenIds: 1024,
} as const;

type Fields = Readonly<Record<string, unknown>>;

/**
 * Counts what a parsed body has many of, before a schema visits each and makes an issue of each
 * that is wrong, and before anything is made for each choice. Of what a list must hold, it sees to
 * the crudest. Throws ApiError `invalid_value` at the first fault.
 */
export function checkCounts(body: unknown): void {
  if (!isObject(body)) return;
  checkItems(body.messages, 'messages', ['content', 'tool_calls']);
  checkLength(body.tools, 'tools', BODY_COUNTS.tools);
  checkLength(body.stop, 'stop', BODY_COUNTS.stops);
  const stops: readonly unknown[] = Array.isArray(body.stop) ? body.stop : [body.stop];
  const characters = stops.reduce<number>(
    (sum, stop) => sum + (typeof stop === 'string' ? stop.length : 0),
    0,
  );
  if (characters > BODY_COUNTS.stopCharacters) {
    refuse('stop', `stop must have at most ${BODY_COUNTS.stopCharacters} characters in all.`);
  }
  checkLength(body.stop_token_ids, 'stop_token_ids', BODY_COUNTS.tokenIds);
  if (isObject(body.logit_bias)) {
    checkLength(Object.keys(body.logit_bias), 'logit_bias', BODY_COUNTS.tokenIds);
  }
}

/** The same for what a conversation consists of under another name, with parts in `fields`. */
export function checkItems(items: unknown, param: string, fields: readonly string[]): void {
  checkObjects(items, param, BODY_COUNTS.messages);
  if (!Array.isArray(items)) return;
  let left = BODY_COUNTS.parts;
  items.forEach((item: Fields, at) => {
    for (const field of fields) {
      const parts = item[field];
      if (!Array.isArray(parts)) continue;
      checkObjects(parts, `${param}.${at}.${field}`, left);
      left -= parts.length;
    }
  });
}

/** A list of objects, so far as it is a list. */
function checkObjects(list: unknown, param: string, most: number): void {
  checkLength(list, param, most);
  if (!Array.isArray(list)) return;
  const at = list.findIndex((each) => !isObject(each));
  if (at >= 0) refuse(`${param}.${at}`, `${param}.${at} must be an object.`);
}

function checkLength(list: unknown, param: string, most: number): void {
  if (!Array.isArray(list) || list.length <= most) return;
  refuse(param, `${param} must have at most ${most} entries.`);
}

function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function refuse(param: string, message: string): never {
  throw new ApiError('invalid_value', message, param);
}
