import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type AgentState, FabricError, readLogFolder } from '@bridgekeeper/fabric';
import { ControlError } from '../errors.ts';
import type { HostFabric } from './fabric.ts';

/**
 * What an agent answers to a call of its socket; null: none listens there. Throws FabricError as
 * the agent did, and 'agent-running' for one that does not answer.
 */
export type AskFabric = (method: string, path: string, body?: unknown) => Promise<unknown>;

/** The fabric's agent of this host, by its socket and by its log in its state folder. */
export function hostFabric(folder: string, askFabric: AskFabric): HostFabric {
  const log = join(folder, 'log');
  const translated = <T>(error: unknown): T => {
    if (!(error instanceof FabricError)) throw error;
    const isSilent = error.code === 'agent-running' || error.code === 'log-broken';
    const code = isSilent ? 'vmm-unavailable' : 'vmm-refused';
    throw new ControlError(code, `the fabric\u2019s agent: ${error.message}`, { cause: error });
  };
  const ask = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const answer = await askFabric(method, path, body).catch(translated);
    if (answer !== null) return answer;
    const message = `no fabric agent runs over ${folder}: start \`bridgekeeper fabric agent\``;
    throw new ControlError('vmm-unavailable', message);
  };
  const readText = (name: string): string | null => {
    try {
      return readFileSync(join(log, name), 'utf8');
    } catch {
      return null;
    }
  };
  /** The log as it was read last: it only grows. */
  let read = { bytes: -1, indexes: new Map<string, number>() };
  return {
    state: async () => (await ask('GET', '/v1/state')) as AgentState,
    activate: async ({ id, tenant, modules }) => {
      await ask('POST', '/v1/tenancies', { id, tenant, modules, order: 'stop-first' });
    },
    deactivate: async (id) => {
      await ask('DELETE', `/v1/tenancies/${encodeURIComponent(id)}`);
    },
    checkpoint: async () => readText('checkpoint'),
    activation: async (commitment, epoch) => {
      try {
        const bytes = statSync(join(log, 'entries'), { throwIfNoEntry: false })?.size ?? 0;
        if (bytes !== read.bytes) {
          const indexes = new Map<string, number>();
          for (const [index, entry] of readLogFolder(log).entries.entries()) {
            if (entry.kind !== 'fact' || entry.change !== 'activate') continue;
            const key = `${entry.tenancy.commitment}/${entry.tenancy.epoch}`;
            // Once more after a restart: the first is when it was.
            if (!indexes.has(key)) indexes.set(key, index);
          }
          read = { bytes, indexes };
        }
      } catch (error) {
        return translated(error);
      }
      return read.indexes.get(`${commitment}/${epoch}`) ?? null;
    },
  };
}
