// What everything that takes requests of the API has use for: its sockets, errors, keys, quotas,
// browsers, logs and metrics. No engine is started by any of it.

export { isAnthropicPath, messageError } from './anthropic/errors.ts';
export { authorizationOf, TENANT_HEADER } from './http/auth.ts';
export { decodeBody } from './http/body.ts';
export { CorsPolicy } from './http/cors.ts';
export { API_ERROR_CODES, ApiError, toApiError } from './http/errors.ts';
export { HostPolicy } from './http/host-policy.ts';
export { HttpServer, type ListenSettings } from './http/http-server.ts';
export { CONVERSATION_BOUNDS, checkJsonBounds } from './http/json-bounds.ts';
export type { KeyLimits } from './http/key-file.ts';
export { type Admission, Quotas } from './http/quotas.ts';
export { REPLICA_HEADER, replicaText } from './http/replica-header.ts';
export { requestIdFrom } from './http/request-id.ts';
export { logAccess } from './logging/access-log.ts';
export { type Logger, openLog } from './logging/logger.ts';
export { TTFT_SECONDS } from './metrics/buckets.ts';
export { Histogram, type RegistryMetric } from './metrics/histogram.ts';
export { Reading, type Sample } from './metrics/reading.ts';
export { REPORT_PATH } from './routes/attestation.ts';
export { ENCRYPTED_PATH } from './routes/encrypted.ts';
