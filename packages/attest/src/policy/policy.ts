import { z } from 'zod';
import type { Voucher } from '../claims/claim.ts';
import type { AttestErrorCode } from '../core/errors.ts';

/**
 * Families of subjects, as they stand before the number of a claim's subject: `GPU-0`, `CPU`.
 * Requirements are per family.
 */
const SUBJECT_FAMILIES = [
  'gpu',
  'switch',
  'machine',
  'cpu',
  'app',
  'rim',
  'token',
  'server',
  'receipt',
  'receipts',
  'fabric',
] as const;
export type SubjectFamily = (typeof SUBJECT_FAMILIES)[number];

/**
 * What has to be verified of a subject for it to count as proven. Families that are not here are
 * about others, and prove nothing to count.
 */
export const PROOFS = {
  gpu: ['gpu.chain', 'gpu.signature', 'gpu.identity'],
  switch: ['switch.chain', 'switch.signature', 'switch.identity'],
  cpu: ['cpu.chain', 'cpu.quote', 'cpu.debug'],
  app: ['app.identity', 'app.compose'],
  rim: ['rim.chain', 'rim.signature'],
  token: ['token.signature', 'token.parts', 'token.result'],
  server: ['server.binding'],
  receipt: ['receipt.signature'],
  receipts: ['receipt.chain'],
} as const satisfies Partial<Record<SubjectFamily, readonly string[]>>;
export type ProvenFamily = keyof typeof PROOFS;
const PROVEN_FAMILIES = Object.keys(PROOFS) as ProvenFamily[];

/**
 * What a policy may put up with. A signature that does not hold, a root that is not pinned or a
 * debug mode is none of it: no policy can make evidence out of what proves nothing.
 */
export const TOLERABLE_CODES = [
  'certificate-expired',
  'certificate-held',
  'collateral-expired',
  'revocation-unknown',
  'reference-missing',
  'tcb-refused',
  'mode-refused',
  'set-incomplete',
  'not-available',
] as const satisfies readonly AttestErrorCode[];

const VOUCHERS = [
  'device-signed',
  'cpu-signed',
  'vendor-signed',
  'guest-observed',
  'operator-asserted',
] as const satisfies readonly Voucher[];

const TEES = ['tdx', 'sev-snp'] as const;

const scalar = z.union([z.string().max(4096), z.number(), z.boolean(), z.null()]);
const because = z.string().min(1).max(500);

const requirement = z
  .strictObject({
    /** The claim's value is one of these; of no values: the policy has still to be told. */
    oneOf: z.array(scalar).max(1000).optional(),
    /** The claim's value, a list, holds all of these; of no values: as above. */
    includes: z.array(z.string().max(4096)).max(1000).optional(),
    /**
     * The claim's value is at least this; versions such as `96.00.5E.00.01` part by part. Of a list
     * such as `bootloader=3, snp=8`: each part that is named here is there and at least that.
     */
    atLeast: z
      .union([z.number(), z.string().min(1).max(100), z.record(z.string(), z.number())])
      .optional(),
    /** The claim's value, a number, is at most this. */
    atMost: z.number().optional(),
    /** Vouchers that are believed here although the claim is not verified. The result says so. */
    believe: z.array(z.enum(VOUCHERS)).min(1).optional(),
    /** Only of guests under this TEE: the other's CPUs say nothing of the kind. */
    tee: z.enum(TEES).optional(),
  })
  .readonly();
export type Requirement = z.infer<typeof requirement>;

const toleration = z
  .strictObject({
    kind: z.string(),
    codes: z.array(z.enum(TOLERABLE_CODES)).min(1),
    /** Only claims with one of these values. */
    values: z.array(scalar).min(1).max(1000).optional(),
    /** Shown with every result it bears on. */
    because,
  })
  .readonly();
export type Toleration = z.infer<typeof toleration>;

const count = z.int().min(1).max(1024);
/**
 * By family, how many subjects there must be, each with all that `PROOFS` names verified. GPUs
 * `as-served`, of a server that is proven as well: as many as it says that it serves on or that its
 * driver shows, and at least one where it does not say.
 */
const evidenceSet = z
  .partialRecord(z.enum(PROVEN_FAMILIES), z.union([count, z.literal('as-served')]))
  .refine((set) => Object.keys(set).length > 0, 'a set of nothing proves nothing')
  .refine(
    (set) => Object.entries(set).every(([family, of]) => family === 'gpu' || of !== 'as-served'),
    'only GPUs are counted as the server says',
  )
  .refine(
    ({ gpu, server }) => gpu !== 'as-served' || server !== undefined,
    'a server that is not proven can say that it serves on no GPU',
  )
  .readonly();
export type EvidenceSet = z.infer<typeof evidenceSet>;

const securityVersion = z.int().min(0).max(255);

/** AMD signs no list of good firmware: whoever trusts an SEV-SNP guest says what is the least. */
const snpTcb = z
  .strictObject({
    fmc: securityVersion.default(0),
    bootloader: securityVersion,
    tee: securityVersion,
    snp: securityVersion,
    microcode: securityVersion,
  })
  .readonly();

/** Version 1 had no minimum, and pinned nothing but the CPU's registers. */
export const POLICY_VERSION = 2;

/** What turns claims into a verdict. */
export const policySchema = z
  .strictObject({
    version: z.literal(POLICY_VERSION),
    name: z.string().min(1).max(100),
    purpose: z.string().max(500).default(''),
    /** The least that must be there and proven: one of these sets, whole. */
    minimum: z.array(evidenceSet).min(1).max(20),
    /** By family, the most subjects that there may be. */
    atMost: z.partialRecord(z.enum(SUBJECT_FAMILIES), z.int().min(0).max(1024)).default({}),
    /** By family, the claims that each of its subjects must have, verified. */
    require: z
      .partialRecord(z.enum(SUBJECT_FAMILIES), z.record(z.string(), requirement))
      .default({}),
    /** Refusals that do not refuse the whole. */
    tolerate: z.array(toleration).max(200).default([]),
    /** null: the firmware of an SEV-SNP host is not compared, so `cpu.tcb` stays unverified. */
    snpMinimumTcb: snpTcb.nullable().default(null),
  })
  .readonly();
export type Policy = z.infer<typeof policySchema>;
