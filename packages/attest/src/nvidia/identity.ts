import { type Certificate, nameOf } from '../core/certificate.ts';
import { demand } from '../core/errors.ts';
import type { DeviceReport } from './device-report.ts';

/**
 * Leaf, device, provisioner, chip family, root. The length is demanded, because a device's own
 * certificate may issue: with one certificate more, a device that was broken into could vouch for
 * another identity than its own.
 */
const CHAIN_LENGTH = 5;
/** A device's subject serial number: a byte for what reports of it, then its PDI. */
const SERIAL = /^(40|41|50)([0-9A-F]{16})$/;
const KIND_BYTES = { fsp: '40', gsp: '41', switch: '50' } as const;

/** Throws AttestError 'chain-broken' for a chain that no device of that kind has. */
export function demandDeviceChain(chain: readonly Certificate[]): void {
  const { length } = chain;
  demand(length === CHAIN_LENGTH, 'chain-broken', `a device has ${CHAIN_LENGTH}, not ${length}`);
  const [leaf, device, provisioner] = chain as [Certificate, Certificate, Certificate];
  demand(!leaf.mayIssue, 'chain-broken', `${nameOf(leaf)} may issue certificates, as no leaf may`);
  demand(SERIAL.test(device.subjectSerial ?? ''), 'chain-broken', `${nameOf(device)} is no device`);
  const isProvisioner = provisioner.subjectSerial === null;
  demand(isProvisioner, 'chain-broken', `${nameOf(device)} was issued by a device`);
}

/**
 * The device's identity (PDI, 16 hexadecimal digits), which its certificate states and the reports
 * of switches and FSPs repeat. GSP and FSP of one GPU have one identity. Throws AttestError
 * 'identity-mismatch'.
 */
export function identityOf(chain: readonly Certificate[], report: DeviceReport): string {
  const match = SERIAL.exec(chain[1]?.subjectSerial ?? '');
  demand(match !== null, 'identity-mismatch', 'its certificates name no device');
  const [, kind, digits] = match as unknown as [string, string, string];
  const pdi = digits.toLowerCase();
  const isOfKind = kind === KIND_BYTES[report.reporter ?? 'switch'];
  demand(isOfKind, 'identity-mismatch', `its certificate is for a device of kind ${kind}`);
  const own = report.place?.pdi ?? report.ownPdi ?? pdi;
  demand(own === pdi, 'identity-mismatch', `its report says ${own}, its certificate ${pdi}`);
  return pdi;
}
