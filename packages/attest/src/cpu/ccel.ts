import { checkedIn } from '../claims/check.ts';
import type { Claim } from '../claims/claim.ts';
import { ByteReader, type Bytes, concatBytes, equalBytes } from '../core/bytes.ts';
import { digest } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { cpuCheck } from './guest.ts';
import type { TdxQuote } from './tdx-quote.ts';

const LOG_BYTES_MAX = 8 * 1024 * 1024;
const EVENTS_MAX = 10_000;
const EVENT_BYTES_MAX = 1024 * 1024;
const ALGORITHMS_MAX = 8;
const WHAT = 'the CCEL log';
const SIGNATURE = 'Spec ID Event03\0';
/** Where it is: behind index, type, a SHA-1 digest and a size. */
const SIGNATURE_OFFSET = 32;
const SHA1_BYTES = 20;
const SHA384 = 0x0c;
const REGISTER_BYTES = 48;
const REGISTERS = [0, 1, 2, 3] as const;
/** An event for readers of the log, which extends nothing. */
const NO_ACTION = 3;
/** An event's index and type. */
const HEAD_BYTES = 8;

/** An event as firmware and boot loaders log it; only its digest is measured. */
export interface CcelEvent {
  /** 0: of no register. 1 to 4: of RTMR0 to RTMR3. */
  readonly index: number;
  readonly type: number;
  /** SHA-384, 48 bytes. */
  readonly digest: Bytes;
}

/** Whether bytes begin as such a log does, or as one of a TPM. */
export function isBootLog(bytes: Bytes): boolean {
  const end = SIGNATURE_OFFSET + SIGNATURE.length;
  return String.fromCharCode(...bytes.subarray(SIGNATURE_OFFSET, end)) === SIGNATURE;
}

/**
 * Reads the log that Linux shows as `/sys/firmware/acpi/tables/data/CCEL`. Behind the last event it
 * may only be filled, with ones or with zeros. Source: TCG's "PC client platform firmware profile",
 * crypto agile log, as the "Guest-host communication interface" of TDX takes it over. Throws
 * AttestError 'malformed', 'too-large' or 'unsupported-algorithm' (a log without SHA-384).
 */
export function readCcel(bytes: Bytes): CcelEvent[] {
  demand(bytes.length <= LOG_BYTES_MAX, 'too-large', `${WHAT} has ${bytes.length} bytes`);
  const reader = new ByteReader(bytes, WHAT);
  const sizes = readHeader(reader);
  const hasSha384 = sizes.get(SHA384) === REGISTER_BYTES;
  demand(hasSha384, 'unsupported-algorithm', `${WHAT} has no digests of SHA-384`);
  const events: CcelEvent[] = [];
  while (reader.left > 0 && !isFilling(bytes.subarray(reader.offset))) {
    demand(events.length < EVENTS_MAX, 'too-large', `${WHAT} has more than ${EVENTS_MAX} events`);
    events.push(readEvent(reader, sizes));
  }
  return events;
}

/** The first event, in the older form: which digests the others have, by algorithm. */
function readHeader(reader: ByteReader): Map<number, number> {
  reader.u32le();
  const type = reader.u32le();
  const isBlank = reader.bytes(SHA1_BYTES).every((byte) => byte === 0);
  demand(type === NO_ACTION && isBlank, 'malformed', `${WHAT} begins with another event`);
  const header = new ByteReader(readSized(reader), `the header of ${WHAT}`);
  const signature = String.fromCharCode(...header.bytes(SIGNATURE.length));
  demand(signature === SIGNATURE, 'malformed', `${WHAT} does not say which format it has`);
  // Platform class, version (minor, major, errata), size of an integer.
  header.bytes(8);
  const count = header.u32le();
  const isCounted = count >= 1 && count <= ALGORITHMS_MAX;
  demand(isCounted, 'malformed', `${WHAT} names ${count} algorithms`);
  const sizes = new Map<number, number>();
  for (let i = 0; i < count; i++) {
    const algorithm = header.u16le();
    demand(!sizes.has(algorithm), 'malformed', `${WHAT} names algorithm ${algorithm} twice`);
    sizes.set(algorithm, header.u16le());
  }
  header.bytes(header.u8());
  header.end();
  return sizes;
}

function readEvent(reader: ByteReader, sizes: ReadonlyMap<number, number>): CcelEvent {
  const [index, type, count] = [reader.u32le(), reader.u32le(), reader.u32le()];
  const isWhole = count === sizes.size;
  demand(isWhole, 'malformed', `${WHAT} has an event with ${count} digests, not ${sizes.size}`);
  const isRegister = index >= 1 && index <= REGISTERS.length;
  demand(isRegister || type === NO_ACTION, 'malformed', `${WHAT} has an event of index ${index}`);
  const digests = new Map<number, Bytes>();
  for (let i = 0; i < count; i++) {
    const algorithm = reader.u16le();
    const size = digests.has(algorithm) ? undefined : sizes.get(algorithm);
    demand(size !== undefined, 'malformed', `${WHAT} has a digest of algorithm ${algorithm}`);
    digests.set(algorithm, reader.bytes(size));
  }
  readSized(reader);
  return { index, type, digest: digests.get(SHA384)! };
}

function readSized(reader: ByteReader): Bytes {
  const size = reader.u32le();
  demand(size <= EVENT_BYTES_MAX, 'too-large', `${WHAT} has an event of ${size} bytes`);
  return reader.bytes(size);
}

/** No event begins with eight bytes of ones, or of zeros. */
function isFilling(rest: Bytes): boolean {
  const filling = rest[0];
  const isFilled = (byte: number): boolean => byte === filling;
  const isUnused = filling === 0 || filling === 0xff;
  if (!isUnused || !rest.subarray(0, HEAD_BYTES).every(isFilled)) return false;
  demand(rest.every(isFilled), 'malformed', `${WHAT} has something behind its last event`);
  return true;
}

/**
 * Whether the log leads to RTMR0 to RTMR2 of the quote, and to RTMR3 if it has events of that;
 * `isGenuine`: whether the quote is. The claim's value is the registers that it accounts for.
 */
export function appraiseCcel(
  events: readonly CcelEvent[],
  quote: TdxQuote,
  isGenuine: boolean,
): Promise<Claim> {
  const measured = events.filter(({ type }) => type !== NO_ACTION);
  // Software that runs extends RTMR3 as it likes, and logs that elsewhere.
  const hasLast = measured.some(({ index }) => index === REGISTERS.length);
  const counted = REGISTERS.filter((register) => register < 3 || hasLast);
  const names = counted.map((register) => `rtmr${register}`);
  const statement = `${measured.length} events of the boot lead to ${names.join(', ')}`;
  const evidence = ['TDX quote', 'CCEL log'];
  const check = cpuCheck('cpu.eventLog', 'cpu-signed', statement, evidence, names);
  const document = { isGenuine, doubt: 'Nothing proves that the quote is genuine' };
  return checkedIn(document, check, async () => {
    const replayed = await replay(measured);
    const differing = counted.filter((i) => !equalBytes(replayed[i]!, quote.report.rtmrs[i]!));
    const which = differing.map((register) => `RTMR${register}`).join(', ');
    const isSame = differing.length === 0;
    demand(isSame, 'event-log-mismatch', `the CCEL log does not lead to ${which} of the quote`);
  });
}

async function replay(events: readonly CcelEvent[]): Promise<Bytes[]> {
  const registers = REGISTERS.map((): Bytes => new Uint8Array(REGISTER_BYTES));
  for (const { index, digest: measured } of events) {
    const extended = concatBytes(registers[index - 1]!, measured);
    registers[index - 1] = await digest('SHA-384', extended);
  }
  return registers;
}
