import { z } from 'zod';
import type { ClaimValue } from '../claims/claim.ts';
import { type Bytes, fromUtf8, toHex, utf8 } from '../core/bytes.ts';
import { canonicalBytes } from '../core/canonical.ts';
import { sha256Hex } from '../core/digest.ts';
import { demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import { demandGpuBoot, readGpuBootEvent } from './gpu-boot.ts';
import type { AppClaimKind } from './kinds.ts';
import type { VmConfig } from './report.ts';

const KEY_PROVIDER_CHARACTERS_MAX = 4096;
const COMPOSE_CHARACTERS_MAX = 1024 * 1024;

/** What may be at hand besides dstack's report; null: it is not compared. */
export interface AppDocuments {
  /** The text of app-compose.json, to the byte. */
  readonly compose: string | null;
  /** What NVIDIA's verifier wrote in the guest when it booted. */
  readonly gpuEvidence: Bytes | null;
}

/** One thing that the guest measured once while it booted. */
export interface Measured {
  readonly kind: AppClaimKind;
  /** The event's name. */
  readonly event: string;
  /** The claim's statement, up to the value. */
  readonly statement: string;
  /** The claim's value; rejects with an AttestError if the payload does not hold. */
  appraise(payload: Bytes): Promise<ClaimValue>;
}

export function measuredOf(documents: AppDocuments, vmConfig: VmConfig | null): Measured[] {
  const { compose, gpuEvidence } = documents;
  return [
    {
      kind: 'app.identity',
      event: 'app-id',
      statement: 'the guest runs the app',
      appraise: async (payload) => toHex(payload),
    },
    {
      kind: 'app.compose',
      event: 'compose-hash',
      statement: "the app's compose file has the SHA-256",
      appraise: (hash) => appraiseCompose(hash, compose),
    },
    {
      kind: 'app.instance',
      event: 'instance-id',
      statement: 'it is the instance',
      appraise: async (payload) => toHex(payload),
    },
    {
      kind: 'app.keyProvider',
      event: 'key-provider',
      statement: 'keys come from',
      appraise: appraiseKeyProvider,
    },
    {
      kind: 'app.gpuPolicy',
      event: 'gpu-policy-hash',
      statement: 'the guest held its GPUs to the policy with the SHA-256',
      appraise: (hash) => appraiseGpuPolicy(hash, compose),
    },
    {
      kind: 'app.gpuBoot',
      event: 'gpu-attestation',
      statement: 'before it used them, the guest had evidence of its GPUs, in number',
      appraise: async (payload) => {
        const event = readGpuBootEvent(payload);
        await demandGpuBoot(event, gpuEvidence, vmConfig);
        return event.devices;
      },
    },
  ];
}

async function appraiseCompose(hash: Bytes, compose: string | null): Promise<string> {
  const measured = toHex(hash);
  demand(hash.length === 32, 'malformed', `the compose hash has ${hash.length} bytes`);
  const given = compose === null ? measured : await sha256Hex(utf8(compose));
  const message = `the compose file has the SHA-256 ${given}, measured was ${measured}`;
  demand(given === measured, 'binding-mismatch', message);
  return measured;
}

const composeSchema = z.object({
  requirements: z.object({ gpu_policy: z.unknown().optional() }).optional(),
});

/** The hash is of the policy's canonical JSON; a compose file without one has an empty object. */
async function appraiseGpuPolicy(hash: Bytes, compose: string | null): Promise<string> {
  const measured = toHex(hash);
  demand(hash.length === 32, 'malformed', `the GPU policy's hash has ${hash.length} bytes`);
  if (compose === null) return measured;
  const what = 'the compose file';
  const file = readShape(composeSchema, parseJson(compose, COMPOSE_CHARACTERS_MAX, what), what);
  const given = await sha256Hex(canonicalBytes(file.requirements?.gpu_policy ?? {}));
  const message = `the file's GPU policy has the SHA-256 ${given}, measured was ${measured}`;
  demand(given === measured, 'binding-mismatch', message);
  return measured;
}

const keyProviderSchema = z.strictObject({ name: z.string().max(64), id: z.string().max(2048) });

async function appraiseKeyProvider(payload: Bytes): Promise<readonly string[]> {
  const what = 'the key-provider event';
  const json = fromUtf8(payload, what);
  const read = parseJson(json, KEY_PROVIDER_CHARACTERS_MAX, what);
  const { name, id } = readShape(keyProviderSchema, read, what);
  return [`name=${name}`, `id=${id}`];
}
