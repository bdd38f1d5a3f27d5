import { z } from 'zod';
import { checkedIn, type Source } from '../claims/check.ts';
import type { Claim, ClaimValue } from '../claims/claim.ts';
import { concatBytes, equalBytes, utf8 } from '../core/bytes.ts';
import { digest, sha256Hex } from '../core/digest.ts';
import { AttestError, demand } from '../core/errors.ts';
import { parseJson, readShape } from '../core/json-shape.ts';
import type { SnpReport } from '../cpu/snp-report.ts';
import { appCheck, appraiseMachine, onSystem } from './app.ts';
import type { DstackSnp } from './attestation.ts';
import type { AppClaimKind } from './kinds.ts';
import type { AppDocuments } from './measured.ts';

const EVIDENCE = ['SNP report', "dstack's configuration"];
const DOMAIN = 'dstack-mr-config-v3:\0';
const DOCUMENT_CHARACTERS_MAX = 64 * 1024;
const WHAT = "dstack's configuration";

const hex = z.string().regex(/^([0-9a-f]{2}){1,2048}$/, 'must be hexadecimal');
const schema = z.strictObject({
  version: z.literal(3).default(3),
  app_id: hex.nullish(),
  compose_hash: hex,
  gpu_policy_hash: hex.nullish(),
  key_provider: z.enum(['none', 'local', 'kms', 'tpm']),
  key_provider_id: hex.nullish(),
  instance_id: hex.nullish(),
  init_script_hashes: z.array(hex).max(64).nullish(),
});
type Configuration = z.output<typeof schema>;

/**
 * What a guest with SEV-SNP was to run. There are no registers that grow with what it does: the
 * host data of its report, fixed at launch, are the digest of a configuration, to which dstack's
 * operating system holds itself. `isGenuine`: whether the report is. Never throws for evidence
 * that is wrong.
 */
export async function appraiseSnpApp(
  { configuration, vmConfig }: Pick<DstackSnp, 'configuration' | 'vmConfig'>,
  { hostData }: SnpReport,
  { compose }: AppDocuments,
  isGenuine: boolean,
): Promise<Claim[]> {
  const read = tryRead(configuration);
  const bound = await digest('SHA-256', concatBytes(utf8(DOMAIN), utf8(configuration)));
  const source = { isGenuine, doubt: 'Nothing proves that the report is genuine' };
  const demandBound = (): void => {
    const isBound = equalBytes(bound, hostData);
    demand(isBound, 'binding-mismatch', 'the report is not for this configuration of the app');
    if (read instanceof AttestError) throw read;
  };
  const said = read instanceof AttestError ? null : read;
  const claim = (kind: AppClaimKind, statement: string, value: ClaimValue, test = demandBound) =>
    appraise(kind, statement, value, source, test);
  const composeHash = said?.compose_hash ?? null;
  const given = compose === null ? composeHash : await sha256Hex(utf8(compose));
  return onSystem([
    await claim('app.compose', "the app's compose file has the SHA-256", composeHash, () => {
      demandBound();
      const message = `the compose file has the SHA-256 ${given}, configured was ${composeHash}`;
      demand(given === composeHash, 'binding-mismatch', message);
    }),
    ...(await Promise.all(said === null ? [] : statedOf(said).map((args) => claim(...args)))),
    ...appraiseMachine(vmConfig),
  ]);
}

function tryRead(text: string): Configuration | AttestError {
  try {
    return readShape(schema, parseJson(text, DOCUMENT_CHARACTERS_MAX, WHAT), WHAT);
  } catch (error) {
    if (error instanceof AttestError) return error;
    throw error;
  }
}

/** What a configuration names of the rest; what it leaves out is not fixed. */
function statedOf(said: Configuration): [AppClaimKind, string, ClaimValue][] {
  const provider = [`name=${said.key_provider}`, `id=${said.key_provider_id ?? ''}`];
  const all: [AppClaimKind, string, ClaimValue][] = [
    ['app.identity', 'the guest runs the app', said.app_id ?? null],
    ['app.instance', 'it is the instance', said.instance_id ?? null],
    ['app.keyProvider', 'keys come from', provider],
    [
      'app.gpuPolicy',
      'the guest held its GPUs to the policy with the SHA-256',
      said.gpu_policy_hash ?? null,
    ],
    ['app.initScripts', 'before the app ran the scripts', said.init_script_hashes ?? null],
  ];
  return all.filter(([, , value]) => value !== null);
}

function appraise(
  kind: AppClaimKind,
  statement: string,
  value: ClaimValue,
  source: Source,
  test: () => void,
): Promise<Claim> {
  const shown = typeof value === 'object' && value !== null ? value.join(', ') : String(value);
  return checkedIn(source, appCheck(kind, `${statement} ${shown}`, value, EVIDENCE), test);
}
