import { type Bytes, fromUtf8, toHex, utf8 } from '../core/bytes.ts';
import { type Certificate, nameOf, parseCertificates } from '../core/certificate.ts';
import { sha256Hex } from '../core/digest.ts';
import { AttestError, demand } from '../core/errors.ts';
import { readPckIdentity } from '../cpu/pck.ts';
import { type RevocationList, readRevocationList } from '../cpu/revocation-list.ts';
import { productOf, type SnpKey, snpKeyName } from '../cpu/snp-key.ts';
import type { SnpReport } from '../cpu/snp-report.ts';
import { readTdxCollateral, type TdxCollateral } from '../cpu/tdx-collateral.ts';
import type { TdxQuote } from '../cpu/tdx-quote.ts';
import { askWithHeaders, type Http } from './http.ts';
import type { ByteStore } from './store.ts';

const ANSWER_BYTES_MAX = 512 * 1024;
const CHAIN_HEADER_MAX = 32 * 1024;

/** Where what CPU vendors say of a platform comes from. All reject with AttestError. */
export interface CollateralSource {
  collateral(quote: TdxQuote): Promise<TdxCollateral>;
  /** What AMD revoked of the keys that sign reports. */
  snpRevocationList(key: SnpKey): Promise<RevocationList>;
  /**
   * AMD's own certificates above a key that signs reports, and that of the key where it is not at
   * hand (null): only a chip's can be had, a cloud provider has its own.
   */
  snpCertificates(report: SnpReport, key: SnpKey | null): Promise<Certificate[]>;
}

/** The services that are asked; each can be another one with the same interface. */
export interface CollateralAddresses {
  readonly intel: string;
  readonly intelRootList: string;
  readonly amd: string;
}

const ADDRESSES: CollateralAddresses = {
  // Provisioning certification service, version 4 of its interface.
  intel: 'https://api.trustedservices.intel.com',
  intelRootList: 'https://certificates.trustedservices.intel.com/IntelSGXRootCA.der',
  // Key distribution service.
  amd: 'https://kdsintf.amd.com',
};

/**
 * Collateral by HTTP, of the platform that the evidence names. Certificates of AMD's do not change,
 * and its service answers few questions: they are kept in `store`.
 */
export function collateralService(
  http: Http,
  { intel, intelRootList, amd }: CollateralAddresses = ADDRESSES,
  store: ByteStore | null = null,
): CollateralSource {
  const certificates = async (path: string): Promise<Certificate[]> => {
    const name = `amd-${await sha256Hex(utf8(path))}.der`;
    const read = (bytes: Bytes) => parseCertificates(bytes, 2, "AMD's certificates");
    const kept = (await store?.get(name)) ?? null;
    const known = kept && (await read(kept).catch(() => null));
    if (known !== null) return known;
    const { body } = await get(http, amd + path);
    const fetched = await read(body);
    await store?.put(name, body);
    return fetched;
  };
  return {
    async collateral(quote) {
      const fmspc = toHex(readPckIdentity(quote.pckChain[0]!).fmspc);
      const [list, root, tcb, qe] = await Promise.all([
        get(http, `${intel}/sgx/certification/v4/pckcrl?ca=${issuerOf(quote)}&encoding=der`),
        get(http, intelRootList),
        get(http, `${intel}/tdx/certification/v4/tcb?fmspc=${fmspc}`),
        get(http, `${intel}/tdx/certification/v4/qe/identity`),
      ]);
      const tcbInfo = signedPart(tcb.body, 'tcbInfo');
      const identity = signedPart(qe.body, 'enclaveIdentity');
      const json = JSON.stringify({
        pck_crl_issuer_chain: chainOf(list.headers, 'SGX-PCK-CRL-Issuer-Chain'),
        root_ca_crl: toHex(root.body),
        pck_crl: toHex(list.body),
        tcb_info_issuer_chain: chainOf(tcb.headers, 'TCB-Info-Issuer-Chain'),
        tcb_info: tcbInfo.text,
        tcb_info_signature: tcbInfo.signature,
        qe_identity_issuer_chain: chainOf(qe.headers, 'SGX-Enclave-Identity-Issuer-Chain'),
        qe_identity: identity.text,
        qe_identity_signature: identity.signature,
      });
      return readTdxCollateral(json);
    },
    async snpRevocationList(key) {
      const { body } = await get(http, `${amd}${amdPath(key)}/crl`);
      return readRevocationList(body, "AMD's revocation list");
    },
    async snpCertificates(report, key) {
      if (key !== null) return certificates(`${amdPath(key)}/cert_chain`);
      const productName = productOf(report);
      const isHidden = report.chipId.every((byte) => byte === 0);
      const isNamed = productName !== null && !isHidden && report.signingKey === 'VCEK';
      demand(isNamed, 'not-available', 'the report does not name the chip whose key signed it');
      const path = amdPath({ productName, providerId: null });
      const [own, above] = await Promise.all([
        certificates(`${path}/${snpKeyName(report, productName)}`),
        certificates(`${path}/cert_chain`),
      ]);
      return [...own, ...above];
    },
  };
}

/** Of a product and a kind of key, in AMD's service. */
function amdPath({ productName, providerId }: Pick<SnpKey, 'productName' | 'providerId'>): string {
  const [product] = productName.split('-');
  return `/${providerId === null ? 'vcek' : 'vlek'}/v1/${encodeURIComponent(product!)}`;
}

async function get(http: Http, url: string): Promise<{ body: Bytes; headers: Headers }> {
  const answer = await askWithHeaders(http, { url, answerBytesMax: ANSWER_BYTES_MAX });
  if (answer !== null) return answer;
  throw new AttestError('not-available', `${new URL(url).host} knows no such platform`);
}

/** Which of Intel's two issuers certified the platform's key. */
function issuerOf({ pckChain }: TdxQuote): 'platform' | 'processor' {
  const issuer = pckChain[1];
  return issuer !== undefined && nameOf(issuer).includes('Processor') ? 'processor' : 'platform';
}

/** The signature is over the text as it stands, so nothing may parse and write it anew. */
function signedPart(body: Bytes, key: string): { text: string; signature: string } {
  const what = `the answer with ${key}`;
  const end = String.raw`\s*,\s*"signature"\s*:\s*"([0-9a-fA-F]+)"\s*\}\s*$`;
  const form = new RegExp(String.raw`^\s*\{\s*"${key}"\s*:\s*(\{.*\})${end}`, 's');
  const match = form.exec(fromUtf8(body, what));
  demand(match !== null, 'malformed', `${what} is not a signed statement`);
  return { text: match[1]!, signature: match[2]! };
}

function chainOf(headers: Headers, name: string): string {
  const value = headers.get(name);
  const isThere = value !== null && value.length <= CHAIN_HEADER_MAX;
  demand(isThere, 'malformed', `the answer has no header ${name}`);
  try {
    return decodeURIComponent(value);
  } catch (cause) {
    throw new AttestError('malformed', `the header ${name} is not encoded`, { cause });
  }
}
