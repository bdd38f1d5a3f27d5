import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { ApiError } from './errors.ts';

/** Whose request it is that a gateway passes on. */
export const TENANT_HEADER = 'x-bridgekeeper-tenant';
const TENANT_NAME = /^[a-z0-9-]{1,63}$/;

/** Who may call, and whose KV a call may share. */
export class KeyRing {
  readonly #digests: readonly Buffer[];
  readonly #operators: readonly Buffer[];
  readonly #gateways: readonly Buffer[];

  /**
   * Without `keys` and keys of gateways every client may call; an operator key is a key, too. A
   * gateway's key is believed whose request it is.
   */
  constructor(
    keys: readonly string[],
    operatorKeys: readonly string[] = [],
    gatewayKeys: readonly string[] = [],
  ) {
    this.#operators = operatorKeys.map(digest);
    this.#gateways = gatewayKeys.map(digest);
    const all = [...keys, ...gatewayKeys].map(digest);
    this.#digests = all.length === 0 ? [] : [...all, ...this.#operators];
  }

  /**
   * The tenant of a request: a prefix of its key's digest, or 'default' where no keys are set.
   * Throws ApiError `invalid_api_key`. Every key is compared in constant time, so that timing tells
   * nothing of any. `named`: whom a gateway says that it asks for.
   */
  tenantOf(authorization: string | undefined, named?: string): string {
    if (this.#digests.length === 0) return 'default';
    const token = tokenOf(authorization);
    const given = digest(token ?? '');
    const known = isAmong(this.#digests, given);
    if (token === undefined || !known) {
      throw new ApiError(
        'invalid_api_key',
        token === undefined
          ? 'This server needs an API key: send "Authorization: Bearer <key>".'
          : 'The API key is not known here.',
      );
    }
    if (!isAmong(this.#gateways, given)) return tenantOfKey(token);
    if (named === undefined || !TENANT_NAME.test(named)) {
      const message = `A gateway's key comes with the header ${TENANT_HEADER}: whom it asks for.`;
      throw new ApiError('invalid_api_key', message);
    }
    // As of a key that no client can have.
    return tenantOfKey(`a gateway's tenant: ${named}`);
  }

  /** Whether this is a key of a gateway's. */
  isGateway(authorization: string): boolean {
    const token = tokenOf(authorization);
    return token !== undefined && isAmong(this.#gateways, digest(token));
  }

  /**
   * Whether this proves one of the keys for a report with this nonce, without showing it: a client
   * does not yet know who answers. HMAC-SHA-256 under the key's SHA-256, in hex. Nobody else can
   * make it, and it is good for nothing but this report.
   */
  provesKey(authorization: string | undefined, nonceHex: string | undefined): boolean {
    const given = /^Bridgekeeper-Proof ([0-9a-f]{64})$/.exec(authorization ?? '')?.[1];
    if (given === undefined || nonceHex === undefined) return false;
    const proof = Buffer.from(given, 'hex');
    let known = false;
    for (const each of this.#digests) {
      const expected = createHmac('sha256', each).update(`bridgekeeper.report.v1 ${nonceHex}`);
      known = timingSafeEqual(expected.digest(), proof) || known;
    }
    return known;
  }

  /**
   * For what tells of all tenants: an operator key where there are any, else the only key, else
   * every client where there are none. Throws ApiError `operator_only`.
   */
  requireOperator(authorization: string | undefined): void {
    if (this.isOperator(authorization)) return;
    throw new ApiError(
      'operator_only',
      this.#operators.length === 0
        ? 'This tells of all keys: start the server with --operator-key to read it.'
        : 'This tells of all keys: only an operator key reads it.',
    );
  }

  /** Whether who brings this may read what tells of all tenants. */
  isOperator(authorization: string | undefined): boolean {
    if (this.#operators.length === 0) return this.#digests.length <= 1;
    const token = tokenOf(authorization);
    return token !== undefined && isAmong(this.#operators, digest(token));
  }
}

/** Where clients put a key: OpenAI's, or else Anthropic's header, read as a bearer key. */
export function authorizationOf(header: (name: string) => string | undefined): string | undefined {
  const given = header('authorization');
  if (given !== undefined) return given;
  const key = header('x-api-key');
  return key === undefined ? undefined : `Bearer ${key}`;
}

function tokenOf(authorization: string | undefined): string | undefined {
  return /^Bearer (.+)$/i.exec(authorization ?? '')?.[1];
}

/** Compares with each, so that timing tells nothing of any. */
function isAmong(digests: readonly Buffer[], given: Buffer): boolean {
  let known = false;
  for (const each of digests) known = timingSafeEqual(each, given) || known;
  return known;
}

/** What a key's owner is called, in the engine, in receipts and in logs. */
export function tenantOfKey(key: string): string {
  return digest(key).toString('hex', 0, 8);
}

/** A `cache_salt` narrows a tenant: requests share KV only where both agree. */
export function saltedTenant(tenant: string, salt: string | null | undefined): string {
  return salt == null ? tenant : `${tenant}-${digest(salt).toString('hex', 0, 8)}`;
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
