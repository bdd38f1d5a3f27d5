import { FABRIC_CLAIM_KINDS } from '../claims/fabric-kinds.ts';
import { CPU_CLAIM_KINDS } from '../cpu/kinds.ts';
import { APP_CLAIM_KINDS } from '../dstack/kinds.ts';
import { HGX_CLAIM_KINDS } from '../hgx/topology.ts';
import { TOKEN_CLAIM_KINDS } from '../nras/appraise.ts';
import { DEVICE_CLAIM_KINDS, DEVICE_SET_CLAIM_KINDS } from '../nvidia/kinds.ts';
import { RECEIPT_CHAIN_CLAIMS } from '../receipts/chain.ts';
import { RECEIPT_CLAIMS } from '../receipts/verify.ts';
import { SERVER_CLAIMS } from '../report/appraise.ts';
import { MEASUREMENT_CLAIM_KINDS } from '../rim/appraise.ts';
import { REFERENCE_CLAIM_KINDS } from '../rim/reference.ts';

/** Every kind of claim there is: what policies may name. */
export const CLAIM_KINDS: ReadonlySet<string> = new Set<string>([
  ...SERVER_CLAIMS,
  ...CPU_CLAIM_KINDS,
  ...APP_CLAIM_KINDS,
  ...DEVICE_CLAIM_KINDS,
  ...DEVICE_SET_CLAIM_KINDS,
  ...MEASUREMENT_CLAIM_KINDS,
  ...HGX_CLAIM_KINDS,
  ...REFERENCE_CLAIM_KINDS,
  ...TOKEN_CLAIM_KINDS,
  ...RECEIPT_CLAIMS,
  ...RECEIPT_CHAIN_CLAIMS,
  ...FABRIC_CLAIM_KINDS,
]);
