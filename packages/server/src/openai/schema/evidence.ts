import { z } from '@hono/zod-openapi';

const text = z.string().nullable();
const open = z.looseObject({});

export const ReceiptDocument = z
  .object({
    receipt: z.looseObject({
      type: z.literal('bridgekeeper.receipt.v1'),
      id: z.string(),
      sequence: z.int(),
      previous: text,
      key: z.string(),
      createdAt: z.int(),
      outcome: z.enum(['complete', 'failed', 'cut']),
      requestSha256: z.string(),
      responseSha256: z.string(),
      model: z.string(),
      modelDigest: text,
      policy: z.string(),
      law: z.string(),
      replica: z
        .object({ id: z.string(), tenancyEpoch: z.int(), logIndex: z.int().nullable() })
        .optional(),
      tokens: open,
      kv: z.array(open).optional(),
      crossings: open,
    }),
    signature: z.string(),
  })
  .openapi('SignedReceipt');

export const ReceiptLinksDocument = z
  .object({ previous: text, first: z.int(), digests: z.array(z.string()) })
  .openapi('ReceiptLinks');

export const ReceiptKeyDocument = z
  .object({
    algorithm: z.literal('ed25519'),
    public_key: z.string(),
    is_durable: z.boolean(),
    /** They move to a file once the process that has it lets go of it. */
    awaits_file: z.boolean(),
    chain: z.object({ sequence: z.int(), hash: text }),
    since_start: z.object({
      issued: z.int(),
      written: z.int(),
      lost: z.int(),
      withheld: z.int(),
    }),
  })
  .openapi('ReceiptKey');

/** Beside our own part, the names that other services' clients read. */
export const ReportDocument = z
  .looseObject({
    model_name: z.string(),
    signing_address: text,
    signing_algo: z.literal('ed25519'),
    signing_public_key: text,
    request_nonce: z.string(),
    intel_quote: text,
    nvidia_payload: text,
    event_log: text,
    vm_config: text,
    tls_cert_fingerprint: z.string().optional(),
    bridgekeeper: z.looseObject({
      statement: open,
      signature: text,
      binding: z.enum(['statement', 'signing-address', 'signing-address-tls']),
      report_data: z.string(),
      snp_report: text,
      snp_certificates: text,
      configuration: open.nullable(),
      notes: z.array(z.string()),
    }),
  })
  .openapi('AttestationReport');
