import type { MachineSources } from '@bridgekeeper/attest/node';
import type { StartedEngine } from '../engine/started-engine.ts';
import type { ServerClock } from '../host-clock.ts';
import type { Receipts } from '../receipts/receipts.ts';
import type { Settings } from '../settings/table.ts';
import { Attestation } from './attestation.ts';
import { configurationOf } from './configuration.ts';
import { Machine } from './machine.ts';
import { digestHeaders, type ModelIdentity } from './model-identity.ts';
import { Reporter } from './reporter.ts';
import type { VersionInfo } from './software.ts';
import { tlsSpkiSha256 } from './tls-key.ts';

/** What a server can show of itself. */
export interface ServerEvidence {
  readonly attestation: Attestation;
  /** Of the model that is served, in hex; null: there is none. */
  readonly modelDigest: string | null;
  /** Throws where the folder has not what the evidence names: nothing may be loaded from it. */
  readonly requireSameModel: () => Promise<void>;
  close(): Promise<void>;
}

export interface EvidenceParts {
  readonly clock: ServerClock;
  readonly machine: MachineSources;
  readonly receipts: Receipts | null;
  readonly modelName: string;
  readonly version: VersionInfo;
  /** That requests can be encrypted to now. */
  readonly encryptionKeys: () => Promise<Uint8Array<ArrayBuffer>>;
}

/** Gathers what reports will say; asks the machine nothing yet. Throws UsageError. */
export async function openEvidence(
  settings: Settings,
  { engine, modelSha256 }: StartedEngine,
  { clock, machine: sources, receipts, modelName, version, encryptionKeys }: EvidenceParts,
): Promise<ServerEvidence> {
  const { sslCertfile } = settings;
  const identity = await identify(settings, modelSha256);
  const machine = new Machine(sources, clock);
  const attestation = new Attestation({
    reporter: new Reporter(machine),
    subject: {
      model: { name: modelName, ...identity },
      configuration: configurationOf(settings, engine.card, receipts !== null),
      tlsSpkiSha256: sslCertfile === undefined ? null : tlsSpkiSha256(sslCertfile),
      encryptionKeys,
      receipts: receipts && {
        signer: () => receipts.signer,
        head: (key: string) => receipts.head(key),
      },
    },
    version,
    unixSeconds: () => clock.unixSeconds(),
  });
  const close = async () => {
    await Promise.all([machine.close(), receipts?.close()]);
  };
  const requireSameModel = async () => {
    const { sha256 } = await identify(settings, modelSha256);
    if (sha256 === identity.sha256) return;
    throw new Error(`the files of ${settings.model} are not those that reports name any more`);
  };
  return { attestation, modelDigest: identity.sha256, requireSameModel, close };
}

/** A manifest's digest is of every byte; without one, headers tell models apart, not weights. */
async function identify(
  { model, loadFormat }: Settings,
  manifest: string | undefined,
): Promise<ModelIdentity> {
  if (manifest !== undefined) return { sha256: manifest, covers: 'manifest' };
  const headers = loadFormat === 'dummy' ? null : await digestHeaders(model);
  return { sha256: headers, covers: headers === null ? null : 'headers' };
}
