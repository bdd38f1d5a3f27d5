import { z } from 'zod';
import { fromHex } from '../core/bytes.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import { readEventLog, type TdxEvent } from '../cpu/event-log.ts';
import { readTdxQuote, type TdxQuote } from '../cpu/tdx-quote.ts';

const REPORT_CHARACTERS_MAX = 8 * 1024 * 1024;
const CONFIG_CHARACTERS_MAX = 1024 * 1024;

const reportSchema = z.strictObject({
  quote: z.string(),
  event_log: z.string(),
  // Said again beside the quote, whose own report data are the ones that are signed.
  report_data: z.string().nullish(),
  hash_algorithm: z.string().nullish(),
  prefix: z.string().nullish(),
  vm_config: z.string().nullish(),
  // For machines other than TDX, whose quote above is empty.
  attestation: z.string().nullish(),
});

/** What an image's maker published of it: two files in base64, of which its hash is made. */
const imageFiles = z.object({ measurement: z.string(), checksum_file: z.string() });
const text = z.string().max(256).nullish();

// The host writes it, and every release of dstack adds to it: what is not needed is left out.
const configSchema = z.object({
  os_image_hash: z
    .string()
    .regex(/^([0-9a-f]{64})?$/)
    .default(''),
  cpu_count: z.int().min(0).default(0),
  memory_size: z.int().min(0).default(0),
  num_gpus: z.int().min(0).default(0),
  num_nvswitches: z.int().min(0).default(0),
  // What launch measurements are computed from, besides the image.
  image: text,
  qemu_version: text,
  ovmf_variant: text,
  host_share_mode: text,
  pci_hole64_size: z.int().min(0).nullish(),
  hugepages: z.boolean().nullish(),
  hotplug_off: z.boolean().nullish(),
  tdx_attestation_variant: text,
  tdx_measurement: imageFiles.nullish(),
  /** The JSON of `imageFiles` with the virtual CPUs' number, type and features. */
  sev_snp_measurement: z
    .string()
    .max(64 * 1024)
    .nullish(),
});
/** What the host says of the machine. Nothing of it is measured as such. */
export type VmConfig = z.infer<typeof configSchema>;

/** What dstack's guest agent answers when it is asked for a quote. */
export interface DstackReport {
  readonly quote: TdxQuote;
  readonly events: readonly TdxEvent[];
  /** The registers that `events` has all events of. */
  readonly logged: readonly TdxEvent['register'][];
  readonly vmConfig: VmConfig | null;
}

/**
 * Reads the answer to GetQuote of dstack's guest agent. Throws AttestError with a reading code.
 */
export async function readDstackReport(json: string): Promise<DstackReport> {
  const what = "dstack's report";
  const report = readShape(reportSchema, parseJson(json, REPORT_CHARACTERS_MAX, what), what);
  return {
    quote: await readTdxQuote(fromHex(report.quote, 'the quote')),
    events: readEventLog(report.event_log),
    logged: [0, 1, 2, 3],
    vmConfig: report.vm_config ? readVmConfig(report.vm_config) : null,
  };
}

/** Throws AttestError 'malformed' or 'too-large'. */
export function readVmConfig(json: string): VmConfig {
  const what = 'the VM configuration';
  return readShape(configSchema, parseJson(json, CONFIG_CHARACTERS_MAX, what), what);
}
