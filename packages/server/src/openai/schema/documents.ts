import { KV_PARTS, RECOMPUTED_FOR } from '@bridgekeeper/engine';
import { z } from '@hono/zod-openapi';
import { conversationFields } from './chat.ts';
import { isTokenIds } from './common.ts';

export const ModelDocument = z
  .object({
    id: z.string(),
    object: z.literal('model'),
    created: z.int(),
    owned_by: z.string(),
    root: z.string(),
    parent: z.null(),
    max_model_len: z.int(),
    /** Of the seal that it was verified against. */
    seal_root: z.string().nullable(),
  })
  .openapi('Model');

export const ModelList = z
  .object({ object: z.literal('list'), data: z.array(ModelDocument) })
  .openapi('ModelList');

const TokenizeText = z.object({
  model: z.string().nullish(),
  prompt: z.string(),
  add_special_tokens: z.boolean().nullish(),
  return_token_strs: z.boolean().nullish(),
});

const TokenizeChat = z.object({
  model: z.string().nullish(),
  ...conversationFields,
  return_token_strs: z.boolean().nullish(),
});

/** Of either form. */
export const TOKENIZE_FIELDS: readonly string[] = [TokenizeText, TokenizeChat].flatMap((form) =>
  Object.keys(form.shape),
);

export const TokenizeRequest = z.union([TokenizeText, TokenizeChat]).openapi('TokenizeRequest');

export const TokenizeResponse = z
  .object({
    count: z.int(),
    max_model_len: z.int(),
    tokens: z.array(z.int()),
    token_strs: z.array(z.string()).nullable(),
  })
  .openapi('TokenizeResponse');

const TokenIdsField = z
  .custom<readonly number[]>(isTokenIds, 'must be an array of token ids')
  .openapi({ type: 'array', items: { type: 'integer', minimum: 0 } });

export const DetokenizeRequest = z
  .object({ model: z.string().nullish(), tokens: TokenIdsField })
  .openapi('DetokenizeRequest');

export const DetokenizeResponse = z.object({ prompt: z.string() }).openapi('DetokenizeResponse');

export const VersionDocument = z.object({ version: z.string() }).openapi('Version');

const crossed = {
  crossings: z.int(),
  bytes: z.int(),
  busy_seconds: z.number(),
};

const byTier = z.object({ device: z.int(), host: z.int(), disk: z.int() });

function wholeNumbers<Name extends string>(names: readonly Name[]) {
  return Object.fromEntries(names.map((name) => [name, z.int()])) as Record<Name, z.ZodInt>;
}

/** Counts of pages. */
const movedPages = {
  resident: byTier,
  hits: byTier,
  spilled: z.int(),
  demoted: z.int(),
  restored: z.int(),
  recomputed: z.int(),
  /** The same by why. */
  recomputed_for: z.object(wholeNumbers(RECOMPUTED_FOR)),
  avoided: z.int(),
  refused: z.int(),
  lost: z.int(),
  late: z.int(),
};

export const BridgeDocument = z
  .object({
    device: z.record(z.string(), z.union([z.string(), z.number(), z.boolean()])),
    law: z.object({ name: z.string(), reason: z.string() }),
    policy: z.object({ name: z.string(), reason: z.string() }),
    assumed_bridge: z.object({
      name: z.string(),
      reason: z.string(),
      warning: z.string().optional(),
    }),
    /** Of the engine that runs now, like all that is counted here. */
    uptime_seconds: z.number(),
    /** null: the engine is never started again. */
    restarts: z
      .object({
        count: z.int(),
        failures: z.record(z.string(), z.int()),
        resumed_requests: z.int(),
        last: z
          .object({
            cause: z.string(),
            message: z.string(),
            failed_at: z.int(),
            outage_seconds: z.number().nullable(),
          })
          .nullable(),
      })
      .nullable(),
    running: z.int(),
    waiting: z.int(),
    generated_tokens: z.int(),
    launches: z.int(),
    graph_launches: z.int(),
    steps_per_launch: z.int(),
    steps_per_launch_reason: z.string(),
    chunk_tokens: z.int(),
    chunk_tokens_reason: z.string(),
    /** null: nothing is ever drafted. */
    speculation: z
      .object({
        drafts_per_step: z.int(),
        reason: z.string(),
        drafts: z.int(),
        draft_tokens: z.int(),
        accepted_tokens: z.int(),
      })
      .nullable(),
    per_generated_token: z.object({
      crossings: z.number(),
      bytes: z.number(),
      launches: z.number(),
    }),
    lanes: z.array(
      z.object({
        id: z.string(),
        kind: z.string(),
        ...crossed,
        blocked_seconds: z.number(),
        utilisation: z.number(),
      }),
    ),
    ledger: z.array(
      z.object({
        purpose: z.string(),
        direction: z.string(),
        ...crossed,
        blocked_seconds: z.number(),
        /** Of one of the mean size, alone; null: nothing is known of the bridge. */
        price_seconds: z.number().nullable(),
      }),
    ),
    grammars: z.object({
      compiled: z.int(),
      found_compiled: z.int(),
      refused: z.int(),
      uploads: z.int(),
      found_on_device: z.int(),
      evictions: z.int(),
      on_device: z.int(),
      on_device_bytes: z.int(),
      pool_bytes: z.int(),
    }),
    kv: z.object({
      page_bytes: z.int(),
      /** Of layers that see `tokens` alone; null: they are in the pages of all others. */
      window: z
        .object({ tokens: z.int(), page_bytes: z.int(), pages: z.int(), held: z.int() })
        .nullable(),
      places: byTier,
      /** The same of each part that moves by itself: pages of contexts and windows, states. */
      parts: z.array(
        z.object({
          part: z.enum(KV_PARTS),
          bytes: z.int(),
          places: byTier,
          /** Of all but pages of contexts. */
          moved: z
            .object({
              resident: z.object({ host: z.int(), disk: z.int() }),
              spilled: z.int(),
              demoted: z.int(),
              restored: z.int(),
              avoided: z.int(),
              refused: z.int(),
              lost: z.int(),
            })
            .nullable(),
        }),
      ),
      host_ready_bytes: z.int(),
      spill_queue_seconds: z.number(),
      restore_queue_seconds: z.number(),
      ...movedPages,
      tenants: z.array(z.object({ tenant: z.string(), ...movedPages })),
    }),
  })
  .openapi('Bridge');

const LiveMomentDocument = z.object({
  seq: z.int(),
  now_us: z.int(),
  server_us: z.int(),
  lanes: z.array(z.string()),
  crossings: z.array(z.array(z.number()).readonly()).readonly(),
  launches: z.array(z.array(z.number()).readonly()).readonly(),
  dropped: z.int(),
});

export const LiveDocument = z
  .object({
    device: z.string(),
    accounts: z.array(z.object({ purpose: z.string(), direction: z.string() })),
    moments: z.array(LiveMomentDocument),
  })
  .openapi('BridgeTimeline');

const namedGpu = z.object({ name: z.string(), title: z.string() });

export const PlanChoicesDocument = z
  .object({
    /** The model that is served; null: the planner cannot tell its sizes. */
    served: z.string().nullable(),
    models: z.array(z.string()),
    gpus: z.array(namedGpu),
    laws: z.array(z.string()),
    engines: z.array(z.string()),
  })
  .openapi('PlanChoices');

export const RequestLifeDocument = z
  .object({
    id: z.string(),
    answer_id: z.string(),
    tenant: z.string(),
    route: z.string(),
    model: z.string(),
    arrived_us: z.int(),
    state: z.enum(['open', 'done']),
    finish_reasons: z.array(z.string().nullable()),
    prompt_tokens: z.int(),
    cached_tokens: z.int(),
    generated_tokens: z.int(),
    first_token_ms: z.number().nullable(),
    total_ms: z.number(),
    timing: z
      .object({
        queued_ms: z.number(),
        prefill_ms: z.number(),
        decode_ms: z.number(),
        preemptions: z.int(),
      })
      .nullable(),
    crossings: z.array(
      z.object({
        purpose: z.string(),
        direction: z.string(),
        crossings: z.number(),
        bytes: z.number(),
      }),
    ),
    receipt_id: z.string().nullable(),
    page_tokens: z.int(),
  })
  .openapi('RequestLife');

export const RequestList = z
  .object({
    object: z.literal('list'),
    data: z.array(RequestLifeDocument),
    has_more: z.boolean(),
  })
  .openapi('RequestList');
