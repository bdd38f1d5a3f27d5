import { EngineError } from '@bridgekeeper/engine';
import { TextError } from '@bridgekeeper/engine/text';
import { describe, expect, test } from 'vitest';
import { ApiError, type ApiErrorCode, toApiError } from './errors.ts';

describe('an error that a client is told', () => {
  test.each<[ApiErrorCode, number, string]>([
    ['invalid_json', 400, 'invalid_request_error'],
    ['invalid_value', 400, 'invalid_request_error'],
    ['unsupported_value', 400, 'invalid_request_error'],
    ['context_length_exceeded', 400, 'invalid_request_error'],
    ['invalid_api_key', 401, 'authentication_error'],
    ['host_not_allowed', 403, 'permission_error'],
    ['origin_not_allowed', 403, 'permission_error'],
    ['operator_only', 403, 'permission_error'],
    ['model_not_found', 404, 'not_found_error'],
    ['receipt_not_found', 404, 'not_found_error'],
    ['response_not_found', 404, 'not_found_error'],
    ['request_not_found', 404, 'not_found_error'],
    ['receipts_unavailable', 503, 'service_unavailable_error'],
    ['evidence_incomplete', 503, 'service_unavailable_error'],
    ['route_not_found', 404, 'not_found_error'],
    ['method_not_allowed', 405, 'invalid_request_error'],
    ['body_too_large', 413, 'invalid_request_error'],
    ['unsupported_media_type', 415, 'invalid_request_error'],
    ['queue_full', 429, 'rate_limit_error'],
    ['envelope_stale', 400, 'invalid_request_error'],
    ['envelope_replayed', 409, 'invalid_request_error'],
    ['rate_limited', 429, 'rate_limit_error'],
    ['shutting_down', 503, 'service_unavailable_error'],
    ['engine_asleep', 503, 'service_unavailable_error'],
    ['sleep_refused', 503, 'service_unavailable_error'],
    ['engine_failed', 500, 'server_error'],
    ['engine_restarting', 503, 'service_unavailable_error'],
    ['no_replica', 503, 'service_unavailable_error'],
    ['replica_failed', 502, 'server_error'],
    ['replica_lost', 502, 'server_error'],
    ['internal_error', 500, 'server_error'],
  ])('%s has status %i and type %s', (code, status, type) => {
    const error = new ApiError(code, 'why', 'field');
    expect(error.status).toBe(status);
    expect(error.body).toEqual({ error: { message: 'why', type, param: 'field', code } });
    expect(new ApiError(code, 'why').body.error.param).toBeNull();
  });

  test('says by headers when to come again, and with what', () => {
    const headersOf = (code: ApiErrorCode) => new ApiError(code, '').headers;
    expect(headersOf('queue_full')).toEqual({ 'Retry-After': '1' });
    expect(headersOf('invalid_api_key')).toEqual({ 'WWW-Authenticate': 'Bearer' });
    expect(headersOf('shutting_down')).toEqual({ Connection: 'close', 'Retry-After': '5' });
    expect(headersOf('body_too_large')).toEqual({ Connection: 'close' });
    expect(headersOf('engine_restarting')).toEqual({ 'Retry-After': '5' });
    expect(headersOf('engine_asleep')).toEqual({ 'Retry-After': '5' });
    expect(headersOf('invalid_value')).toEqual({});
  });
});

describe('what was thrown', () => {
  test.each([
    ['bad-request', 'invalid_value'],
    ['prompt-too-long', 'context_length_exceeded'],
    ['queue-full', 'queue_full'],
    ['shutting-down', 'shutting_down'],
    ['asleep', 'engine_asleep'],
    ['sleep-refused', 'sleep_refused'],
    ['engine-failed', 'engine_failed'],
    ['restarting', 'engine_restarting'],
    ['bad-model', 'engine_failed'],
    ['out-of-memory', 'engine_failed'],
  ] as const)('by the engine as %s is told as %s', (code, told) => {
    const cause = new EngineError(code, 'why', 'field');
    expect(toApiError(cause)).toMatchObject({ code: told, message: 'why', param: 'field', cause });
  });

  test('for the client is told as it is', () => {
    const error = new ApiError('queue_full', 'why');
    expect(toApiError(error)).toBe(error);
  });

  test('by the text side names the messages, unless any text may be at fault', () => {
    const about = (code: 'unencodable' | 'template-failed') => {
      const cause = new TextError(code, 'why');
      const error = toApiError(cause);
      expect(error.cause).toBe(cause);
      return error;
    };
    expect(about('unencodable')).toMatchObject({ code: 'invalid_value', param: undefined });
    expect(about('template-failed')).toMatchObject({ code: 'invalid_value', param: 'messages' });
  });

  test('unforeseen says nothing of its cause', () => {
    const cause = new Error('the prompt was: my secret');
    const error = toApiError(cause);
    expect(error.code).toBe('internal_error');
    expect(error.cause).toBe(cause);
    expect(String(error)).toBe('ApiError: The server failed on this request.');
    expect(JSON.stringify(error.body)).not.toContain('secret');
  });
});
