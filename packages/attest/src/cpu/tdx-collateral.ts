import { z } from 'zod';
import { type Bytes, fromHex, utf8 } from '../core/bytes.ts';
import { type Certificate, parsePemChain } from '../core/certificate.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import { type RevocationList, readRevocationList } from './revocation-list.ts';

const COLLATERAL_CHARACTERS_MAX = 1024 * 1024;
const LEVELS_MAX = 256;

/** Intel's words for how a platform's trusted computing base (TCB) stands. */
export const TCB_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;
export type TcbStatus = (typeof TCB_STATUSES)[number];

const bytesInHex = (bytes: number) =>
  z
    .string()
    .length(2 * bytes)
    .transform((text, context) => {
      if (/^[0-9a-fA-F]*$/.test(text)) return fromHex(text, 'a field');
      context.addIssue('not hexadecimal');
      return z.NEVER;
    });
const moment = z
  .string()
  .regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
  .transform((text) => Date.parse(text))
  .refine((ms) => !Number.isNaN(ms), 'no such moment');
const svn = z.int().min(0).max(0xff);
const level = {
  tcbDate: moment,
  tcbStatus: z.enum(TCB_STATUSES),
  advisoryIDs: z.array(z.string().max(100)).max(1000).default([]),
};
const components = z.array(z.object({ svn })).length(16);
const enclaveLevels = z
  .array(z.object({ tcb: z.object({ isvsvn: z.int().min(0).max(0xffff) }), ...level }))
  .max(LEVELS_MAX);
const module = {
  mrsigner: bytesInHex(48),
  attributes: bytesInHex(8),
  attributesMask: bytesInHex(8),
};
const validity = {
  issueDate: moment,
  nextUpdate: moment,
  tcbEvaluationDataNumber: z.int().min(0),
};

// Intel adds fields over time, which its signature covers: what is not known here is left out.
const tcbInfoSchema = z.object({
  id: z.literal('TDX'),
  version: z.literal(3),
  ...validity,
  fmspc: bytesInHex(6),
  pceId: bytesInHex(2),
  tdxModule: z.object(module),
  tdxModuleIdentities: z
    .array(z.object({ id: z.string().max(32), ...module, tcbLevels: enclaveLevels }))
    .max(LEVELS_MAX)
    .default([]),
  tcbLevels: z
    .array(
      z.object({
        tcb: z.object({
          sgxtcbcomponents: components,
          pcesvn: z.int().min(0).max(0xffff),
          tdxtcbcomponents: components,
        }),
        ...level,
      }),
    )
    .max(LEVELS_MAX),
});
/** What Intel says of the platforms of one FMSPC: levels from the newest to the oldest. */
export type TcbInfo = z.infer<typeof tcbInfoSchema>;

const qeIdentitySchema = z.object({
  id: z.literal('TD_QE'),
  version: z.union([z.literal(2), z.literal(3)]),
  ...validity,
  miscselect: bytesInHex(4),
  miscselectMask: bytesInHex(4),
  attributes: bytesInHex(16),
  attributesMask: bytesInHex(16),
  mrsigner: bytesInHex(32),
  isvprodid: z.int().min(0).max(0xffff),
  tcbLevels: enclaveLevels,
});
/** Which quoting enclave Intel signs off on. */
export type QeIdentity = z.infer<typeof qeIdentitySchema>;

const documentSchema = z.strictObject({
  // Not needed: the quote's own chain, which is verified, names who issues the PCK and its list.
  pck_crl_issuer_chain: z.string(),
  pck_certificate_chain: z.string().nullish(),
  root_ca_crl: z.string(),
  pck_crl: z.string(),
  tcb_info_issuer_chain: z.string(),
  tcb_info: z.string(),
  tcb_info_signature: z.string(),
  qe_identity_issuer_chain: z.string(),
  qe_identity: z.string(),
  qe_identity_signature: z.string(),
});

/** A JSON text of Intel's with its signature and the chain of its signer. */
export interface SignedDocument<T = TcbInfo | QeIdentity> {
  readonly name: string;
  readonly text: Bytes;
  readonly signature: Bytes;
  readonly signers: readonly Certificate[];
  readonly content: T;
}

/** What Intel says about a platform besides its certificates. Nothing of it is verified yet. */
export interface TdxCollateral {
  readonly tcbInfo: SignedDocument<TcbInfo>;
  readonly qeIdentity: SignedDocument<QeIdentity>;
  readonly pckCrl: RevocationList;
  readonly rootCrl: RevocationList;
}

/**
 * Reads collateral in the JSON that DCAP services and dcap-qvl use. Throws AttestError 'malformed'
 * (statements that are not for TDX, too), 'trailing-bytes', 'too-large' or 'unsupported-*'.
 */
export async function readTdxCollateral(json: string): Promise<TdxCollateral> {
  const fields = readDocument(json, documentSchema, 'the collateral');
  const tcbInfo = readDocument(fields.tcb_info, tcbInfoSchema, 'the TCB info');
  const qeIdentity = readDocument(fields.qe_identity, qeIdentitySchema, 'the QE identity');
  const [tcbSigners, qeSigners] = await Promise.all([
    parsePemChain(fields.tcb_info_issuer_chain, 3, "the TCB info's chain"),
    parsePemChain(fields.qe_identity_issuer_chain, 3, "the QE identity's chain"),
  ]);
  return {
    tcbInfo: {
      name: 'TCB info',
      text: utf8(fields.tcb_info),
      signature: fromHex(fields.tcb_info_signature, "the TCB info's signature"),
      signers: tcbSigners,
      content: tcbInfo,
    },
    qeIdentity: {
      name: 'QE identity',
      text: utf8(fields.qe_identity),
      signature: fromHex(fields.qe_identity_signature, "the QE identity's signature"),
      signers: qeSigners,
      content: qeIdentity,
    },
    pckCrl: readRevocationList(fromHex(fields.pck_crl, 'the PCK CRL'), 'the PCK CRL'),
    rootCrl: readRevocationList(fromHex(fields.root_ca_crl, 'the root CRL'), 'the root CRL'),
  };
}

function readDocument<S extends z.ZodType>(json: string, schema: S, what: string) {
  return readShape(schema, parseJson(json, COLLATERAL_CHARACTERS_MAX, what), what);
}
