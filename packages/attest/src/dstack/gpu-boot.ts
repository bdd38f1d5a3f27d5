import { z } from 'zod';
import { type Bytes, fromUtf8 } from '../core/bytes.ts';
import { sha256Hex } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { hexOf, parseJson, readShape } from '../core/json-shape.ts';
import type { VmConfig } from './report.ts';

const EVENT_CHARACTERS_MAX = 4096;

const eventSchema = z.strictObject({
  version: z.literal(2),
  provider: z.literal('nvidia'),
  devices: z.int().min(1).max(64),
  cc_mode: z.string().max(32),
  devtools: z.boolean(),
  /** Of all that NVIDIA's verifier wrote in the guest. */
  evidence_sha256: hexOf(32),
});
/** What the guest measured of its GPUs before it used them. */
export type GpuBootEvent = z.infer<typeof eventSchema>;

/** Reads the payload of dstack's `gpu-attestation` event; throws AttestError 'malformed'. */
export function readGpuBootEvent(payload: Bytes): GpuBootEvent {
  const what = 'the gpu-attestation event';
  const json = fromUtf8(payload, what);
  return readShape(eventSchema, parseJson(json, EVENT_CHARACTERS_MAX, what), what);
}

/**
 * Throws AttestError 'devtools-enabled', 'mode-refused', 'set-incomplete' (other GPUs than the host
 * states) or 'binding-mismatch' (the evidence is not what the guest saw).
 */
export async function demandGpuBoot(
  event: GpuBootEvent,
  evidence: Bytes | null,
  vmConfig: VmConfig | null,
): Promise<void> {
  demand(!event.devtools, 'devtools-enabled', 'a GPU was in devtools mode when the guest booted');
  // What no policy can tolerate comes first, so that what one can does not hide it.
  const isSeen = evidence === null || (await sha256Hex(evidence)) === event.evidence_sha256;
  demand(isSeen, 'binding-mismatch', 'the GPU evidence is not what the guest saw at boot');
  const isOn = event.cc_mode === 'on';
  demand(isOn, 'mode-refused', `GPU confidential computing was ${JSON.stringify(event.cc_mode)}`);
  const stated = vmConfig?.num_gpus ?? event.devices;
  const counts = `the guest saw ${event.devices} GPUs, its configuration has ${stated}`;
  demand(event.devices === stated, 'set-incomplete', counts);
}
