import type { OnceLog } from '../logging/once-log.ts';
import type { AppContext } from './context.ts';
import { refuseFields, unknownFields } from './fields.ts';
import { ChatCompletionRequest } from './schema/chat.ts';
import { CompletionRequest } from './schema/completions.ts';

/** Names that a header lists. */
const MAX_LISTED = 16;
/** What may be a field's name; the rest might be anything, text of a prompt too. */
const PLAIN_NAME = /^[\w.-]{1,64}$/;

/** Tells a client which fields of its request nothing was made of. */
export const IGNORED_HEADER = 'X-Ignored-Fields';

const CHAT_FIELDS = Object.keys(ChatCompletionRequest.shape);
const COMPLETION_FIELDS = Object.keys(CompletionRequest.shape);

/** Why a field of one generating route is refused by the others. */
const ELSEWHERE: ReadonlyMap<string, string> = new Map([
  ...COMPLETION_FIELDS.map((name) => [name, 'it is a field of /v1/completions'] as const),
  ...CHAT_FIELDS.map((name) => [name, 'it is a field of /v1/chat/completions'] as const),
]);

/**
 * What one route makes of the fields of a body: those that would change the answer and cannot be
 * honoured are refused; unknown ones are ignored, as vLLM does, but said to be, in a header of the
 * answer and once in the log.
 */
export class FieldCheck {
  readonly #own: ReadonlySet<string>;
  readonly #others: ReadonlyMap<string, string>;
  readonly #log: OnceLog;

  /** `own` are the names of the route's schema. */
  constructor(log: OnceLog, own: readonly string[], refusesOthers: boolean) {
    this.#log = log;
    this.#own = new Set(own);
    this.#others = refusesOthers ? ELSEWHERE : new Map();
  }

  /** Throws ApiError `unsupported_value`. What is no object the schema refuses. */
  check(c: AppContext, body: unknown): void {
    if (typeof body !== 'object' || body === null || Array.isArray(body)) return;
    const fields = body as Readonly<Record<string, unknown>>;
    refuseFields(fields, this.#own, this.#others);
    const unknown = unknownFields(fields, this.#own);
    if (unknown.length === 0) return;
    const names = unknown.filter((name) => PLAIN_NAME.test(name));
    const listed = names.slice(0, MAX_LISTED);
    const more = unknown.length - listed.length;
    const value = [...listed, ...(more > 0 ? [`and ${more} more`] : [])].join(', ');
    c.set('commonHeaders', { ...c.get('commonHeaders'), [IGNORED_HEADER]: value });
    c.header(IGNORED_HEADER, value);
    for (const name of listed) {
      const message = `requests have a field "${name}", which is not known here and is ignored`;
      this.#log.warn(`field ${name}`, message);
    }
  }
}
