import { createHash, randomBytes } from 'node:crypto';
import type { Quota, RouteReplica, RoutingTable } from '@bridgekeeper/control/api';
import { z } from 'zod';
import { GatewayError } from './errors.ts';

/** The largest file of routes that is read. */
export const ROUTES_BYTES_MAX = 4 * 2 ** 20;

const IN_FLIGHT_MAX = 256;

const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/);
const hex64 = z.string().regex(/^[0-9a-f]{64}$/);
const limit = z.int().min(1).optional();

/** What people write: what a table needs besides has defaults. */
const routesSchema = z.strictObject({
  pools: z
    .array(
      z.strictObject({
        name,
        models: z.array(z.string().min(1).max(256)).min(1),
        replicas: z.array(
          z.strictObject({
            url: z.url({ protocol: /^https?$/ }).max(256),
            /** Names it in receipts and metrics; default: made from its address. */
            name: name.optional(),
            weight: z.int().min(0).max(1000).default(1),
            inFlightMax: z.int().min(1).default(IN_FLIGHT_MAX),
            draining: z.boolean().default(false),
            /** A key that the replica takes from gateways. */
            credential: z.string().min(1).max(256).optional(),
            tlsSpkiSha256: hex64.optional(),
            encryptionKeys: z.string().max(4096).optional(),
            tenancyEpoch: z.int().min(0).default(0),
            logIndex: z.int().min(0).optional(),
          }),
        ),
      }),
    )
    .min(1),
  /** Without tenants, every client may call. */
  tenants: z
    .array(
      z.strictObject({
        name,
        keySha256: z.array(hex64).min(1),
        pools: z.array(name).optional(),
        weight: z.int().min(1).max(1000).default(1),
        inFlightMax: limit,
        requestsPerMinute: limit,
        tokensPerMinute: limit,
      }),
    )
    .optional(),
});

type Routes = z.output<typeof routesSchema>;

export interface StaticTable {
  readonly table: RoutingTable;
  /** No key is needed. */
  readonly isOpen: boolean;
}

/** Reads a file of routes, as a table of this sequence. Throws GatewayError 'bad-table'. */
export function readRoutes(text: string, sequence: number, where: string): StaticTable {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new GatewayError('bad-table', `${where} is not JSON`);
  }
  const read = routesSchema.safeParse(value);
  if (!read.success) {
    const { path, message } = read.error.issues[0]!;
    throw new GatewayError('bad-table', `${where}: ${path.join('.') || 'it'}: ${message}`);
  }
  requireDistinct(read.data, where);
  return { table: tableOf(read.data, sequence), isOpen: read.data.tenants === undefined };
}

function requireDistinct({ pools, tenants = [] }: Routes, where: string): void {
  const lists: Readonly<Record<string, readonly string[]>> = {
    'pools have the name': pools.map((pool) => pool.name),
    'pools have the model': pools.flatMap(({ models }) => models),
    'replicas have the name': pools.flatMap(({ replicas }) => replicas.map(nameOf)),
    'tenants have the name': tenants.map((tenant) => tenant.name),
    'keys have the digest': tenants.flatMap(({ keySha256 }) => keySha256),
  };
  for (const [what, values] of Object.entries(lists)) {
    const twice = values.find((value, at) => values.indexOf(value) !== at);
    if (twice === undefined) continue;
    throw new GatewayError('bad-table', `${where}: two ${what} ${twice}`);
  }
}

const nameOf = ({ name: own, url }: { readonly name?: string | undefined; readonly url: string }) =>
  own ?? new URL(url).host;

/** As control names things: the same for the same thing. */
function idOf(prefix: string, of: string): string {
  const digits = '0123456789abcdefghjkmnpqrstvwxyz';
  const bytes = createHash('sha256').update(of).digest();
  return `${prefix}_${Array.from(bytes.subarray(0, 26), (byte) => digits[byte % 32]).join('')}`;
}

/** Salts and the key of digests end with the process: nothing else has use for them. */
const secret = () => randomBytes(32).toString('base64url');

function tableOf({ pools, tenants = [] }: Routes, sequence: number): RoutingTable {
  return {
    sequence,
    secret: { prefixKey: secret(), madeMs: 0 },
    pools: pools.map((pool) => ({
      pool: pool.name,
      models: pool.models,
      state: 'serving',
      coldStartSeconds: 0,
      tenant: null,
    })),
    replicas: pools.flatMap(({ name: pool, replicas }) =>
      replicas.map((replica): RouteReplica => {
        const { origin } = new URL(replica.url);
        return {
          replica: idOf('rp', nameOf(replica)),
          pool,
          host: replica.name ?? 'static',
          address: origin,
          credential: replica.credential ?? null,
          tlsSpkiSha256: replica.tlsSpkiSha256 ?? null,
          encryptionKeys: replica.encryptionKeys ?? null,
          receiptKey: null,
          evidence: idOf('ev', nameOf(replica)),
          evidenceNotAfterMs: Number.MAX_SAFE_INTEGER,
          tenancyEpoch: replica.tenancyEpoch,
          logIndex: replica.logIndex ?? null,
          state: replica.draining ? 'draining' : 'serving',
          drainUntilMs: null,
          weight: replica.weight,
          inFlightMax: replica.inFlightMax,
        };
      }),
    ),
    tenants: tenants.map((tenant) => ({
      tenant: tenant.name,
      quota: quotaOf(tenant),
      pools: tenant.pools ?? null,
      salt: secret(),
    })),
    keys: tenants.flatMap(({ name: tenant, keySha256 }) =>
      keySha256.map((digest) => ({ digest, tenant, keyId: idOf('key', digest), notAfterMs: null })),
    ),
  };
}

function quotaOf(tenant: NonNullable<Routes['tenants']>[number]): Quota {
  const { weight, inFlightMax, requestsPerMinute, tokensPerMinute } = tenant;
  return {
    requestsPerMinute: requestsPerMinute ?? null,
    tokensPerMinute: tokensPerMinute ?? null,
    inFlightMax: inFlightMax ?? null,
    gpusMax: null,
    weight,
  };
}
