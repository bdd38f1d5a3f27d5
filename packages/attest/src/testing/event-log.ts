import { type Bytes, concatBytes, toHex, utf8 } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { digest } from '../core/digest.ts';

/** An event in dstack's JSON. */
export interface TestEvent {
  readonly imr: number;
  readonly event_type: number;
  readonly digest: string;
  readonly event: string;
  readonly event_payload: string;
  readonly version?: 1 | 2;
}

const RUNTIME_EVENT = 134217729;

/** An event as dstack's guest measures it into register 3. */
export async function makeRuntimeEvent(
  event: string,
  payload: Uint8Array,
  version: 1 | 2 = 1,
): Promise<TestEvent> {
  const event_payload = toHex(payload);
  const measured =
    version === 2
      ? canonicalBytes({ name: event, payload: event_payload, type: RUNTIME_EVENT })
      : concatBytes(Uint8Array.of(1, 0, 0, 8), utf8(`:${event}:`), payload);
  const sha = toHex(await digest('SHA-384', measured));
  const base = { imr: 3, event_type: RUNTIME_EVENT, digest: sha, event, event_payload };
  return version === 2 ? { ...base, version } : base;
}

/** An event of the firmware's, of which the digest alone counts. */
export function makeFirmwareEvent(imr: number, fill: number): TestEvent {
  const sha = fill.toString(16).padStart(2, '0').repeat(48);
  return { imr, event_type: 4, digest: sha, event: '', event_payload: '00' };
}

/** The four registers that the log leads to. */
export async function makeRegisters(log: readonly TestEvent[]): Promise<Bytes[]> {
  const registers: Bytes[] = [0, 1, 2, 3].map(() => new Uint8Array(48));
  for (const { imr, digest: sha } of log) {
    const bytes = Uint8Array.from(sha.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    registers[imr] = await digest('SHA-384', concatBytes(registers[imr]!, bytes));
  }
  return registers;
}
