import { demand } from '../core/errors.ts';
import { type DeviceEvidence, readEvidenceList, readSingleReport } from '../nvidia/evidence.ts';
import type { ServerReport } from '../report/report.ts';
import { type Documents, textOf, within } from './documents.ts';
import type { Recognised } from './recognise.ts';

/** `ofServer`: those that a server's report holds, which are the last of `devices`. */
interface ReadDevices {
  readonly devices: readonly DeviceEvidence[];
  readonly ofServer: readonly DeviceEvidence[];
}

/**
 * Devices of lists, single reports with the chains that `chainOf` finds for them, and what a
 * server's report holds, in this order; files that cannot be read are left out and kept in
 * `documents`. Throws AttestError for a server's own evidence that cannot be read.
 */
export async function readDevices(
  documents: Documents,
  server: ServerReport | null,
  chainOf: (report: Recognised) => Recognised | null,
): Promise<ReadDevices> {
  const devices: DeviceEvidence[] = [];
  for (const list of documents.of('device-list')) {
    devices.push(...((await documents.read(list, () => readEvidenceList(textOf(list)))) ?? []));
  }
  for (const report of documents.of('device-report')) {
    const device = await documents.read(report, () => {
      const chain = chainOf(report);
      const lacking = `${report.name} comes without its chain: give the certificates (PEM) as well`;
      demand(chain !== null, 'malformed', lacking);
      return readSingleReport(report.bytes, textOf(chain), report.name);
    });
    if (device !== null) devices.push(device);
  }
  const payload = server?.nvidiaPayload ?? null;
  if (payload === null || server!.gpuEvidence.length === 0) return { devices, ofServer: [] };
  const name = "the server's GPU evidence";
  const ofServer = await within({ name }, () => readEvidenceList(payload));
  return { devices: [...devices, ...ofServer], ofServer };
}
