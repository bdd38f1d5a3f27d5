import { ByteReader, type Bytes, toHex } from '../core/bytes.ts';
import { type Certificate, parseCertificate } from '../core/certificate.ts';
import { demand } from '../core/errors.ts';

const TABLE_BYTES_MAX = 64 * 1024;
const ENTRIES_MAX = 16;
const END = '0'.repeat(32);

/** GUIDs, by what their certificate is. */
const ENTRIES: Readonly<Record<string, 'key' | 'signer' | 'root'>> = {
  // VCEK, VLEK
  '63da758de6644564adc5f4b93be8accd': 'key',
  a8074bc2a25a483eaae639c045a0b8a1: 'key',
  // ASK (or ASVK), ARK
  '4ab7b379bbac4fe4a02f05aef327c782': 'signer',
  c0b406a4a803495297433fb6014cd0ae: 'root',
};

/** Whether bytes begin as such a table does that holds a chain. */
export function isSnpCertificateTable(bytes: Bytes): boolean {
  return Object.hasOwn(ENTRIES, toHex(bytes.subarray(0, 16)));
}

/**
 * Reads the certificate table that a host hands out with SNP reports: the key that signs, and AMD's
 * own above it where the host has them. Source: AMD's "Guest-hypervisor communication block
 * standardization", MSG_REPORT_REQ. Throws AttestError 'malformed' or 'too-large'.
 */
export async function readSnpCertificateTable(table: Bytes): Promise<Certificate[]> {
  demand(table.length <= TABLE_BYTES_MAX, 'too-large', `the table has ${table.length} bytes`);
  const reader = new ByteReader(table, 'certificate table');
  const found = new Map<string, Bytes>();
  for (let entry = 0; ; entry++) {
    demand(entry < ENTRIES_MAX, 'too-large', `the table has more than ${ENTRIES_MAX} entries`);
    const guid = toHex(reader.bytes(16));
    const [offset, length] = [reader.u32le(), reader.u32le()];
    if (guid === END) break;
    const what = ENTRIES[guid];
    // A host may add entries of its own.
    if (what === undefined) continue;
    const isInside = offset + length <= table.length;
    demand(isInside, 'malformed', `entry ${entry} of the table ends beyond it`);
    demand(!found.has(what), 'malformed', `entry ${entry} of the table is there before`);
    found.set(what, table.slice(offset, offset + length));
  }
  demand(found.has('key'), 'malformed', 'the table does not hold a key that signs reports');
  return Promise.all(
    [...found].map(([what, der]) => parseCertificate(der, `the ${what} of the table`)),
  );
}
