import { defineRule } from '../rule.ts';
import { SOURCES } from './sources.ts';

const LOOPBACK = /^(?:localhost|127\.|::1$)/;

/** Bridgekeeper's own settings. */
export const OWN_SETTINGS_RULES = [
  defineRule({
    id: 'own-policy-overlap',
    severity: 'warning',
    title: 'Policy overlap under confidential computing',
    consequence:
      'Readbacks and uploads are issued from the thread that launches: each blocks it until all ' +
      'that is queued before is done.',
    remedy: 'Leave --policy at auto: it takes resident where the bridge is expensive.',
    planned: { before: 'bridgekeeper-overlap', after: 'bridgekeeper-resident' },
    sources: [SOURCES.serializedBridge, SOURCES.vllm52226],
    needs: ['confidential', 'settings'],
    check: ({ confidential, settings }) =>
      confidential && settings.policy === 'overlap' ? { evidence: '--policy is overlap' } : null,
  }),
  defineRule({
    id: 'own-law-on-top',
    severity: 'warning',
    title: 'An emulated bridge on top of a real one',
    consequence: 'Every crossing pays both, and what is measured describes no machine.',
    remedy: 'Leave --law at auto on a confidential GPU.',
    sources: [SOURCES.inference],
    needs: ['confidential', 'settings'],
    check: ({ confidential, settings: { law } }) =>
      confidential && law.startsWith('emulate:') ? { evidence: `--law is ${law}` } : null,
  }),
  defineRule({
    id: 'own-server-open',
    severity: 'warning',
    title: 'The server listens beyond this machine without keys',
    consequence: 'Whoever reaches the port uses the model, and all are one tenant.',
    remedy: 'Set --api-key, or bind to loopback or a Unix socket.',
    sources: [SOURCES.inference],
    needs: ['settings'],
    check: ({ settings: { host, uds, apiKey, apiKeyFile } }) =>
      uds === undefined && apiKey.length === 0 && apiKeyFile === undefined && !LOOPBACK.test(host)
        ? { evidence: `--host is ${host} and no --api-key is set` }
        : null,
  }),
];
