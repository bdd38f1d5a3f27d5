import { type Bytes, concatBytes, fromHex, toHex, utf8 } from '../core/bytes.ts';
import type { TestEvent } from './event-log.ts';

/** What an attestation of dstack 0.6 holds, whichever encoding it is written in. */
export interface TestAttestation {
  readonly platform:
    | { readonly kind: 'tdx'; readonly quote: Bytes; readonly events: readonly TestEvent[] }
    | {
        readonly kind: 'sev-snp';
        readonly report: Bytes;
        readonly certificates: readonly Bytes[];
        readonly configuration: string;
      };
  readonly runtime: readonly TestEvent[];
  readonly config: string;
}

const json = (bytes: Bytes) => JSON.stringify({ attestation: toHex(bytes) });

/** The document with version 0, SCALE. */
export function scaleAttestation({ platform, runtime, config }: TestAttestation): string {
  return json(
    concatBytes(
      Uint8Array.of(0),
      scalePlatform(platform),
      scaleList(runtime, (one) =>
        concatBytes(scaleText(one.event), scaleBytes(fromHex(one.event_payload, 'payload'))),
      ),
      new Uint8Array(64),
      scaleText(config),
    ),
  );
}

function scalePlatform(platform: TestAttestation['platform']): Bytes {
  if (platform.kind === 'sev-snp') {
    const { report, certificates, configuration } = platform;
    return concatBytes(
      Uint8Array.of(3),
      scaleBytes(report),
      scaleList(certificates, scaleBytes),
      scaleText(configuration),
    );
  }
  return concatBytes(
    Uint8Array.of(0),
    scaleBytes(platform.quote),
    scaleList(platform.events, (one) =>
      concatBytes(
        u32(one.imr),
        u32(one.event_type),
        scaleBytes(fromHex(one.digest, 'digest')),
        scaleText(one.event),
        scaleBytes(fromHex(one.event_payload, 'payload')),
      ),
    ),
  );
}

function scaleList<T>(items: readonly T[], write: (item: T) => Bytes): Bytes {
  return concatBytes(compact(items.length), ...items.map(write));
}

const scaleBytes = (bytes: Bytes) => concatBytes(compact(bytes.length), bytes);
const scaleText = (text: string) => scaleBytes(utf8(text));

function compact(value: number): Bytes {
  if (value < 1 << 6) return Uint8Array.of(value << 2);
  if (value < 1 << 14) return Uint8Array.of(((value << 2) & 0xff) | 1, value >> 6);
  return u32(value * 4 + 2);
}

function u32(value: number): Bytes {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** The document with version 1, MessagePack; bytes as bytes, or as the lists that Rust makes. */
export function packedAttestation(parts: TestAttestation, areBytesLists = false): string {
  const { platform, runtime, config } = parts;
  const octets = (bytes: Bytes) => (areBytesLists ? [...bytes] : bytes);
  const data =
    platform.kind === 'sev-snp'
      ? {
          report: octets(platform.report),
          cert_chain: platform.certificates.map(octets),
          mr_config: platform.configuration,
        }
      : {
          quote: octets(platform.quote),
          event_log: platform.events.map((one) => ({
            imr: one.imr,
            event_type: one.event_type,
            digest: fromHex(one.digest, 'digest'),
            event: one.event,
            event_payload: fromHex(one.event_payload, 'payload'),
            ...(one.version === undefined ? {} : { version: one.version }),
          })),
        };
  const events = runtime.map((one) => ({
    event: one.event,
    payload: fromHex(one.event_payload, 'payload'),
    ...(one.version === undefined ? {} : { version: one.version }),
  }));
  const stack = { report_data: octets(new Uint8Array(64)), runtime_events: events, config };
  return json(
    packed({
      version: 1,
      platform: { kind: platform.kind, data },
      stack: { kind: 'dstack', data: stack },
    }),
  );
}

/** MessagePack in its longer forms: 16 and 32 bits of length. */
export function packed(value: unknown): Bytes {
  if (value instanceof Uint8Array)
    return concatBytes(Uint8Array.of(0xc6), big(value.length, 4), value);
  if (typeof value === 'string') {
    const text = utf8(value);
    return concatBytes(Uint8Array.of(0xdb), big(text.length, 4), text);
  }
  if (typeof value === 'number') {
    return value < 0x80 ? Uint8Array.of(value) : concatBytes(Uint8Array.of(0xce), big(value, 4));
  }
  if (Array.isArray(value)) {
    return concatBytes(Uint8Array.of(0xdc), big(value.length, 2), ...value.map(packed));
  }
  const entries = Object.entries(value as object);
  const pairs = entries.flatMap(([key, item]) => [packed(key), packed(item)]);
  return concatBytes(Uint8Array.of(0xde), big(entries.length, 2), ...pairs);
}

function big(value: number, byteCount: number): Bytes {
  const bytes = new Uint8Array(byteCount);
  for (let i = 0; i < byteCount; i++) {
    bytes[i] = Math.floor(value / 256 ** (byteCount - 1 - i)) % 256;
  }
  return bytes;
}
