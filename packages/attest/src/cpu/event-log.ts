import { z } from 'zod';
import { checkedIn } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import { type Bytes, concatBytes, equalBytes, fromHex, toHex, utf8 } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { digest } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import { cpuCheck } from './guest.ts';
import type { TdxQuote } from './tdx-quote.ts';

const LOG_CHARACTERS_MAX = 4 * 1024 * 1024;
const EVENTS_MAX = 10_000;
const REGISTER_BYTES = 48;
const REGISTERS = [0, 1, 2, 3] as const;
/** The register that dstack's own events extend, and their type. */
export const RUNTIME_REGISTER = 3;
export const RUNTIME_EVENT = 0x0800_0001;

/** An event that was measured into a runtime register (RTMR) of a TD. */
export interface TdxEvent {
  readonly register: 0 | 1 | 2 | 3;
  readonly type: number;
  /** What the register was extended with: 48 bytes, or none where it follows from the payload. */
  readonly digest: Bytes;
  readonly name: string;
  /** Bound to the digest for runtime events alone. */
  readonly payload: Bytes;
  /** How a runtime event's digest is made: over bytes (1) or over canonical JSON (2). */
  readonly version: 1 | 2;
}

const hex = z.string().regex(/^([0-9a-fA-F]{2})*$/, 'must be hexadecimal');
const eventSchema = z.strictObject({
  imr: z.union([z.literal(0), z.literal(1), z.literal(2), z.literal(3)]),
  event_type: z.int().min(0).max(0xffff_ffff),
  digest: z.union([z.literal(''), hex.length(2 * REGISTER_BYTES)]).default(''),
  event: z.string().max(1024),
  event_payload: hex,
  version: z.union([z.literal(1), z.literal(2)]).default(1),
  // The bytes that were hashed, for readers: here they are made from the event itself.
  preimage: hex.nullish(),
});
const logSchema = z.array(eventSchema).max(EVENTS_MAX);

/**
 * Reads an event log in dstack's JSON. Throws AttestError 'malformed' or 'too-large'. It is not
 * bound to any quote before `appraiseEventLog`.
 */
export function readEventLog(json: string): TdxEvent[] {
  const log = readShape(
    logSchema,
    parseJson(json, LOG_CHARACTERS_MAX, 'the event log'),
    'the event log',
  );
  return log.map((event) => ({
    register: event.imr,
    type: event.event_type,
    digest: fromHex(event.digest, 'digest'),
    name: event.event,
    payload: fromHex(event.event_payload, 'payload'),
    version: event.version,
  }));
}

/** Whether name and payload of an event are what was measured, once the log was replayed. */
export function isRuntimeEvent(event: TdxEvent): boolean {
  return event.register === RUNTIME_REGISTER && event.type === RUNTIME_EVENT;
}

/**
 * Whether the log, event by event, leads to the registers of the quote; `isGenuine`: whether the
 * quote is. Every event of register 3 has to be a runtime event whose digest follows from its name
 * and payload: one that only gave its digest could hide what it is. `logged`: the registers that
 * the log has every event of; the others are passed over, and the claim says so.
 */
export function appraiseEventLog(
  events: readonly TdxEvent[],
  quote: TdxQuote,
  isGenuine: boolean,
  logged: readonly TdxEvent['register'][] = REGISTERS,
): Promise<Claim> {
  const counted = events.filter(({ register }) => logged.includes(register));
  const isWhole = logged.length === REGISTERS.length;
  const which = isWhole ? 'the registers' : logged.map((i) => `RTMR${i}`).join(', ');
  const rest = isWhole ? '' : ', the rest of the log was left out';
  const statement = `${counted.length} events lead to ${which}${rest}`;
  const check = cpuCheck('cpu.eventLog', 'cpu-signed', statement, ['TDX quote', 'event log']);
  const document = { isGenuine, doubt: 'Nothing proves that the quote is genuine' };
  return checkedIn(document, check, async () => {
    const replayed = await replay(counted);
    const differing = logged.filter((i) => !equalBytes(replayed[i]!, quote.report.rtmrs[i]!));
    const names = differing.map((i) => `RTMR${i}`).join(', ');
    const isSame = differing.length === 0;
    demand(isSame, 'event-log-mismatch', `the event log does not lead to ${names} of the quote`);
  });
}

async function replay(events: readonly TdxEvent[]): Promise<Bytes[]> {
  const registers = REGISTERS.map((): Bytes => new Uint8Array(REGISTER_BYTES));
  for (const [i, event] of events.entries()) {
    const measured = await digestOf(event, `event ${i} (${JSON.stringify(event.name)})`);
    const extended = concatBytes(registers[event.register]!, measured);
    registers[event.register] = await digest('SHA-384', extended);
  }
  return registers;
}

async function digestOf(event: TdxEvent, what: string): Promise<Bytes> {
  if (!isRuntimeEvent(event)) {
    const isOpaque = event.register !== RUNTIME_REGISTER && event.type !== RUNTIME_EVENT;
    const place = `${what} is of type ${event.type} in RTMR${event.register}`;
    demand(isOpaque, 'event-log-mismatch', `${place}, which only runtime events extend`);
    demand(event.digest.length > 0, 'event-log-mismatch', `${what} has no digest`);
    return event.digest;
  }
  const made = await digest('SHA-384', preimageOf(event));
  const isSame = event.digest.length === 0 || equalBytes(event.digest, made);
  demand(isSame, 'event-log-mismatch', `${what} has a digest that is not of its payload`);
  return made;
}

function preimageOf({ name, payload, type, version }: TdxEvent): Bytes {
  if (version === 2) return canonicalBytes({ name, payload: toHex(payload), type });
  const typeBytes = new Uint8Array(4);
  new DataView(typeBytes.buffer).setUint32(0, type, true);
  return concatBytes(typeBytes, utf8(`:${name}:`), payload);
}
