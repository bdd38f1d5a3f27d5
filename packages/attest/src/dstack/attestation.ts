import { z } from 'zod';
import { ByteReader, type Bytes, fromHex, fromUtf8 } from '../core/bytes.ts';
import { AttestError, demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import { RUNTIME_EVENT, RUNTIME_REGISTER, type TdxEvent } from '../cpu/event-log.ts';
import { readTdxQuote } from '../cpu/tdx-quote.ts';
import { readMsgpack } from './msgpack.ts';
import { type DstackReport, readVmConfig, type VmConfig } from './report.ts';

const DOCUMENT_CHARACTERS_MAX = 8 * 1024 * 1024;
const WHAT = "dstack's attestation";
const EVENTS_MAX = 10_000;
const CERTIFICATES_MAX = 8;
const REGISTER_BYTES = 48;
const REPORT_DATA_BYTES = 64;
/** Of version 0, in the order of its encoding; of version 1, by name. */
const PLATFORMS = ['tdx', 'gcp-tdx', 'nitro-enclave', 'sev-snp', 'aws-nitro-tpm'] as const;

/** What dstack's guest agent answers to Attest, by the CPU that it is from. */
export type DstackAttestation =
  | { readonly tee: 'tdx'; readonly report: DstackReport }
  | ({ readonly tee: 'sev-snp' } & DstackSnp);

export interface DstackSnp {
  readonly report: Bytes;
  /** PEM or DER, in any order; AMD's root is not among them. */
  readonly certificates: readonly Bytes[];
  /** What the guest was to run: its digest is the report's host data. */
  readonly configuration: string;
  readonly vmConfig: VmConfig | null;
}

/** The same of both encodings. */
interface Parts {
  readonly platform:
    | { readonly tee: 'tdx'; readonly quote: Bytes; readonly events: readonly TdxEvent[] }
    | {
        readonly tee: 'sev-snp';
        readonly report: Bytes;
        readonly certificates: readonly Bytes[];
        readonly configuration: string;
      };
  /** Once more, what is in register 3 where there is one. */
  readonly runtimeEvents: readonly TdxEvent[];
  readonly config: string;
}

const documentSchema = z.strictObject({
  attestation: z.string(),
  // dstack's own verifier, too, passes over these where there is an attestation.
  quote: z.string().nullish(),
  event_log: z.string().nullish(),
  vm_config: z.string().nullish(),
  report_data: z.string().nullish(),
  hash_algorithm: z.string().nullish(),
  prefix: z.string().nullish(),
});

/**
 * Reads `{attestation}` of dstack 0.6 (hexadecimal; version 0 in SCALE, version 1 in MessagePack).
 * Its log of TDX is cut down to the events of RTMR3 and a few others, so that only RTMR3 can be
 * replayed. Throws AttestError with a reading code; platforms other than TDX and SEV-SNP are
 * refused by name, as 'unsupported-version'.
 */
export async function readDstackAttestation(json: string): Promise<DstackAttestation> {
  const document = parseJson(json, DOCUMENT_CHARACTERS_MAX, WHAT);
  const bytes = fromHex(readShape(documentSchema, document, WHAT).attestation, WHAT);
  demand(bytes.length > 0, 'malformed', `${WHAT} is empty`);
  const { platform, runtimeEvents, config } = bytes[0] === 0 ? readScale(bytes) : readPacked(bytes);
  const vmConfig = vmConfigOf(config);
  if (platform.tee === 'sev-snp') return { ...platform, vmConfig };
  const isLogged = platform.events.some(({ register }) => register === RUNTIME_REGISTER);
  const events = isLogged ? platform.events : [...platform.events, ...runtimeEvents];
  const quote = await readTdxQuote(platform.quote);
  return { tee: 'tdx', report: { quote, events, logged: [RUNTIME_REGISTER], vmConfig } };
}

/** As it stands, or within what the host handed to the guest. */
function vmConfigOf(config: string): VmConfig | null {
  if (config === '') return null;
  const outer = parseJson(config, DOCUMENT_CHARACTERS_MAX, 'the VM configuration');
  const { vm_config: inner } = Object(outer) as { readonly vm_config?: unknown };
  return readVmConfig(typeof inner === 'string' ? inner : config);
}

function otherPlatform(name: string): never {
  const known = 'TDX and SEV-SNP are known here';
  throw new AttestError('unsupported-version', `${WHAT} is of the platform ${name}: ${known}`);
}

const runtimeEvent = (name: string, payload: Bytes, version: 1 | 2): TdxEvent => ({
  register: RUNTIME_REGISTER,
  type: RUNTIME_EVENT,
  digest: new Uint8Array(),
  name,
  payload,
  version,
});

// Version 0: SCALE, a Substrate encoding. Lengths are compact, numbers little-endian.

function readScale(bytes: Bytes): Parts {
  const reader = new ScaleReader(bytes);
  const version = reader.byte();
  demand(version === 0, 'unsupported-version', `${WHAT} has version ${version}`);
  const platform = reader.platform();
  const runtimeEvents = reader.list(EVENTS_MAX, () =>
    runtimeEvent(reader.text(), reader.octets(), 1),
  );
  reader.fixed(REPORT_DATA_BYTES);
  const config = reader.text();
  reader.end();
  return { platform, runtimeEvents, config };
}

class ScaleReader {
  readonly #bytes: ByteReader;

  constructor(bytes: Bytes) {
    this.#bytes = new ByteReader(bytes, WHAT);
  }

  byte(): number {
    return this.#bytes.u8();
  }

  fixed(count: number): Bytes {
    return this.#bytes.bytes(count);
  }

  octets(): Bytes {
    return this.#bytes.bytes(this.#length());
  }

  text(): string {
    return fromUtf8(this.octets(), WHAT);
  }

  list<T>(countMax: number, item: () => T): T[] {
    const count = this.#length();
    demand(count <= countMax, 'too-large', `${WHAT} has a list of ${count}, at most ${countMax}`);
    return Array.from({ length: count }, item);
  }

  end(): void {
    this.#bytes.end();
  }

  platform(): Parts['platform'] {
    const place = this.byte();
    const name = PLATFORMS[place] ?? String(place);
    if (name === 'tdx') {
      const quote = this.octets();
      return { tee: name, quote, events: this.list(EVENTS_MAX, () => this.#event()) };
    }
    if (name !== 'sev-snp') return otherPlatform(name);
    const report = this.octets();
    const certificates = this.list(CERTIFICATES_MAX, () => this.octets());
    return { tee: name, report, certificates, configuration: this.text() };
  }

  #event(): TdxEvent {
    const [register, type] = [this.#bytes.u32le(), this.#bytes.u32le()];
    const [digest, name, payload] = [this.octets(), this.text(), this.octets()];
    return tdxEvent({ register, type, digest, name, payload, version: 1 });
  }

  /** The last two bits of the first byte say how long the number is. */
  #length(): number {
    const first = this.byte();
    const rest = first >> 2;
    const mode = first & 3;
    demand(mode < 3, 'too-large', `${WHAT} has a part of more than a gigabyte`);
    if (mode === 0) return rest;
    const more = mode === 1 ? this.byte() : this.#bytes.u24le();
    const length = rest + 64 * more;
    const isShort = length >= (mode === 1 ? 1 << 6 : 1 << 14);
    demand(isShort, 'malformed', `${WHAT} has a length that is not the shortest`);
    return length;
  }
}

// Version 1: MessagePack.

/** Rust writes bytes as such, or as a list of numbers where its author did not say otherwise. */
const octets = z
  .union([
    z.instanceof(Uint8Array),
    z.array(z.int().min(0).max(255)).transform((list) => Uint8Array.from(list)),
  ])
  .transform((bytes) => new Uint8Array(bytes));
const version = z.union([z.literal(1), z.literal(2)]).default(1);
const packedEvent = z.strictObject({
  imr: z.int(),
  event_type: z.int().min(0).max(0xffff_ffff),
  digest: octets.default(new Uint8Array()),
  event: z.string().max(1024),
  event_payload: octets,
  version,
  preimage: z.string().nullish(),
});
const packedRuntime = z.strictObject({ event: z.string().max(1024), payload: octets, version });
const packedTdx = z.strictObject({
  quote: octets,
  event_log: z.array(packedEvent).max(EVENTS_MAX),
});
const packedSnp = z.strictObject({
  report: octets,
  cert_chain: z.array(octets).max(CERTIFICATES_MAX),
  mr_config: z.string(),
});
const packedSchema = z.strictObject({
  version: z.literal(1),
  platform: z.strictObject({ kind: z.string().max(64), data: z.unknown() }),
  stack: z.strictObject({
    kind: z.enum(['dstack', 'dstack-pod']),
    data: z.object({
      report_data: octets,
      runtime_events: z.array(packedRuntime).max(EVENTS_MAX),
      config: z.string(),
    }),
  }),
});

function readPacked(bytes: Bytes): Parts {
  const { platform, stack } = readShape(packedSchema, readMsgpack(bytes, WHAT), WHAT);
  return {
    platform: packedPlatform(platform),
    runtimeEvents: stack.data.runtime_events.map((one) =>
      runtimeEvent(one.event, one.payload, one.version),
    ),
    config: stack.data.config,
  };
}

function packedPlatform({ kind, data }: { kind: string; data: unknown }): Parts['platform'] {
  if (kind === 'tdx') {
    const { quote, event_log } = readShape(packedTdx, data, WHAT);
    const events = event_log.map((one) =>
      tdxEvent({
        register: one.imr,
        type: one.event_type,
        digest: one.digest,
        name: one.event,
        payload: one.event_payload,
        version: one.version,
      }),
    );
    return { tee: kind, quote, events };
  }
  if (kind !== 'sev-snp') return otherPlatform(kind);
  const { report, cert_chain, mr_config } = readShape(packedSnp, data, WHAT);
  return { tee: kind, report, certificates: cert_chain, configuration: mr_config };
}

type RawEvent = Omit<TdxEvent, 'register'> & { readonly register: number };

function tdxEvent({ register, digest, ...event }: RawEvent): TdxEvent {
  const isRegister = register === 0 || register === 1 || register === 2 || register === 3;
  demand(isRegister, 'malformed', `${WHAT} has an event of register ${register}`);
  const isDigest = digest.length === 0 || digest.length === REGISTER_BYTES;
  demand(isDigest, 'malformed', `${WHAT} has a digest of ${digest.length} bytes`);
  return { ...event, register, digest };
}
