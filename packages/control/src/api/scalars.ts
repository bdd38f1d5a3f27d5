import { z } from '@hono/zod-openapi';

/** What people and machines call a thing: of hosts, pools, tenants; a label of DNS. */
export const Name = z
  .string()
  .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, 'must be lower-case letters, digits and hyphens');

/** What was made by control: a prefix, and 26 digits in order of time. */
export const Id = z.string().regex(/^[a-z]{2,4}_[0-9a-hjkmnp-tv-z]{26}$/, 'must be an id');

/** SHA-256. */
export const Digest = z.string().regex(/^[0-9a-f]{64}$/, 'must be 64 hex digits');

/** 32 bytes that were drawn at random. */
export const Secret32 = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'must be 32 bytes in base64url');

/** Milliseconds since 1970. */
export const TimeMs = z.int().min(0);

/** Where an account of changes stands: grows by one with each. */
export const Sequence = z.int().min(0);

/** Which occupant, leader or desired state: what is older is refused. */
export const Epoch = z.int().min(0);

/** One line for people. */
export const Text = z.string().max(512);
