import { TextError } from '@bridgekeeper/engine/text';
import { EngineError, type EngineErrorCode } from '@bridgekeeper/engine/threads';

export type ApiErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'service_unavailable_error'
  | 'server_error';

/** Closed: clients may switch on it. */
export type ApiErrorCode =
  | 'invalid_json'
  | 'invalid_value'
  | 'unsupported_value'
  | 'context_length_exceeded'
  | 'invalid_api_key'
  | 'model_not_found'
  | 'receipt_not_found'
  | 'response_not_found'
  | 'request_not_found'
  | 'receipts_unavailable'
  | 'evidence_incomplete'
  | 'route_not_found'
  | 'method_not_allowed'
  | 'host_not_allowed'
  | 'origin_not_allowed'
  | 'operator_only'
  | 'body_too_large'
  | 'unsupported_media_type'
  | 'queue_full'
  | 'envelope_stale'
  | 'envelope_replayed'
  | 'rate_limited'
  | 'shutting_down'
  | 'engine_asleep'
  | 'sleep_refused'
  | 'engine_failed'
  | 'engine_restarting'
  | 'no_replica'
  | 'replica_failed'
  | 'replica_lost'
  | 'internal_error';

const STATUS = {
  invalid_json: [400, 'invalid_request_error'],
  invalid_value: [400, 'invalid_request_error'],
  unsupported_value: [400, 'invalid_request_error'],
  context_length_exceeded: [400, 'invalid_request_error'],
  invalid_api_key: [401, 'authentication_error'],
  host_not_allowed: [403, 'permission_error'],
  origin_not_allowed: [403, 'permission_error'],
  operator_only: [403, 'permission_error'],
  model_not_found: [404, 'not_found_error'],
  receipt_not_found: [404, 'not_found_error'],
  response_not_found: [404, 'not_found_error'],
  request_not_found: [404, 'not_found_error'],
  receipts_unavailable: [503, 'service_unavailable_error'],
  evidence_incomplete: [503, 'service_unavailable_error'],
  route_not_found: [404, 'not_found_error'],
  method_not_allowed: [405, 'invalid_request_error'],
  body_too_large: [413, 'invalid_request_error'],
  unsupported_media_type: [415, 'invalid_request_error'],
  queue_full: [429, 'rate_limit_error'],
  envelope_stale: [400, 'invalid_request_error'],
  envelope_replayed: [409, 'invalid_request_error'],
  rate_limited: [429, 'rate_limit_error'],
  shutting_down: [503, 'service_unavailable_error'],
  engine_asleep: [503, 'service_unavailable_error'],
  sleep_refused: [503, 'service_unavailable_error'],
  engine_failed: [500, 'server_error'],
  engine_restarting: [503, 'service_unavailable_error'],
  no_replica: [503, 'service_unavailable_error'],
  replica_failed: [502, 'server_error'],
  replica_lost: [502, 'server_error'],
  internal_error: [500, 'server_error'],
} as const satisfies Record<ApiErrorCode, readonly [number, ApiErrorType]>;

/** All that an answer may carry. */
export const API_ERROR_CODES = Object.keys(STATUS) as readonly ApiErrorCode[];

export type ApiStatus = (typeof STATUS)[ApiErrorCode][0];

/** OpenAI's error document. */
export interface ErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: ApiErrorType;
    readonly param: string | null;
    readonly code: ApiErrorCode;
  };
}

/**
 * The border of the HTTP API: everything a client is told went wrong. Messages never carry prompt
 * text.
 */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code: ApiErrorCode;
  /** The request's field at fault, where there is one. */
  readonly param: string | undefined;
  /** When it is worth trying again, where that is known. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ApiErrorCode,
    message: string,
    param?: string,
    options?: ErrorOptions & { readonly retryAfterSeconds?: number },
  ) {
    super(message, options);
    this.code = code;
    this.param = param;
    this.retryAfterSeconds = options?.retryAfterSeconds;
  }

  get status(): ApiStatus {
    return STATUS[this.code][0];
  }

  get body(): ErrorBody {
    const { message, code } = this;
    return { error: { message, type: STATUS[code][1], param: this.param ?? null, code } };
  }

  /** Headers the status calls for. */
  get headers(): Record<string, string> {
    if (this.retryAfterSeconds !== undefined) {
      return { 'Retry-After': String(Math.ceil(this.retryAfterSeconds)) };
    }
    // The rest of the body is not read: nothing else can follow on this connection.
    if (this.code === 'body_too_large') return { Connection: 'close' };
    if (this.code === 'engine_restarting') return { 'Retry-After': '5' };
    if (this.code === 'engine_asleep') return { 'Retry-After': '5' };
    if (this.code === 'queue_full') return { 'Retry-After': '1' };
    if (this.code === 'invalid_api_key') return { 'WWW-Authenticate': 'Bearer' };
    if (this.code === 'shutting_down') return { Connection: 'close', 'Retry-After': '5' };
    return {};
  }
}

const FROM_ENGINE: Readonly<Record<EngineErrorCode, ApiErrorCode>> = {
  'bad-request': 'invalid_value',
  'prompt-too-long': 'context_length_exceeded',
  'queue-full': 'queue_full',
  'shutting-down': 'shutting_down',
  asleep: 'engine_asleep',
  'sleep-refused': 'sleep_refused',
  'engine-failed': 'engine_failed',
  restarting: 'engine_restarting',
  'bad-model': 'engine_failed',
  'out-of-memory': 'engine_failed',
};

/**
 * Turns whatever was thrown into what the client is told. Unforeseen errors say nothing of their
 * cause: their message might carry text of a request.
 */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (error instanceof EngineError) {
    const code = FROM_ENGINE[error.code];
    return new ApiError(code, error.message, error.parameter, { cause: error });
  }
  if (error instanceof TextError) {
    const param = error.code === 'unencodable' ? undefined : 'messages';
    return new ApiError('invalid_value', error.message, param, { cause: error });
  }
  return new ApiError('internal_error', 'The server failed on this request.', undefined, {
    cause: error,
  });
}
