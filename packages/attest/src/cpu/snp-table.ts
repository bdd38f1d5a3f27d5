import { ByteReader, type Bytes, toHex } from '../core/bytes.ts';
import { type Certificate, parseCertificate } from '../core/certificate.ts';
import { demand } from '../core/errors.ts';

const TABLE_BYTES_MAX = 64 * 1024;
const ENTRIES_MAX = 16;
const END = '0'.repeat(32);

/** GUIDs, by the place of their certificate in a chain from the key that signs to the root. */
const PLACES: Readonly<Record<string, number>> = {
  // VCEK, VLEK
  '63da758de6644564adc5f4b93be8accd': 0,
  a8074bc2a25a483eaae639c045a0b8a1: 0,
  // ASK (or ASVK), ARK
  '4ab7b379bbac4fe4a02f05aef327c782': 1,
  c0b406a4a803495297433fb6014cd0ae: 2,
};

/**
 * Reads the certificate table that a host hands out with SNP reports, as far as it holds the chain
 * of the key that signed. Source: AMD's "Guest-hypervisor communication block standardization",
 * MSG_REPORT_REQ. Throws AttestError 'malformed' or 'too-large'.
 */
export async function readSnpCertificateTable(table: Bytes): Promise<Certificate[]> {
  demand(table.length <= TABLE_BYTES_MAX, 'too-large', `the table has ${table.length} bytes`);
  const reader = new ByteReader(table, 'certificate table');
  const chain: Bytes[] = [];
  for (let entry = 0; ; entry++) {
    demand(entry < ENTRIES_MAX, 'too-large', `the table has more than ${ENTRIES_MAX} entries`);
    const guid = toHex(reader.bytes(16));
    const [offset, length] = [reader.u32le(), reader.u32le()];
    if (guid === END) break;
    const place = PLACES[guid];
    // A host may add entries of its own.
    if (place === undefined) continue;
    const isInside = offset + length <= table.length;
    demand(isInside, 'malformed', `entry ${entry} of the table ends beyond it`);
    demand(chain[place] === undefined, 'malformed', `entry ${entry} of the table is there before`);
    chain[place] = table.slice(offset, offset + length);
  }
  const isWhole = chain.filter(Boolean).length === 3;
  demand(isWhole, 'malformed', 'the table does not hold a key, its signer and their root');
  return Promise.all(chain.map((der, i) => parseCertificate(der, `certificate ${i} of the table`)));
}
