import { readFileSync } from 'node:fs';
import { z } from 'zod';
import { HostFacts } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import { KubernetesVmm } from './kubernetes.ts';
import { KubernetesApi } from './kubernetes-api.ts';
import type { Vmm } from './vmm.ts';

const positive = z.int().min(1);
const label = z.string().regex(/^[a-zA-Z0-9]([-a-zA-Z0-9_.]{0,61}[a-zA-Z0-9])?$/);
const document = z.strictObject({
  url: z.url(),
  /** Read anew for each call; null: none is needed. */
  tokenFile: z.string().nullable().default(null),
  caFile: z.string().nullable().default(null),
  namespace: label,
  node: label,
  deviceClass: z.string().default('vfio.gpu.nvidia.com'),
  images: z.record(
    z.string(),
    z.strictObject({
      image: z.string(),
      runtimeClass: z.string(),
      arguments: z.array(z.string()).default([]),
      vcpus: positive,
      memoryMib: positive,
      port: z.int().min(1).max(65_535),
      annotations: z.record(z.string(), z.string()).default({}),
    }),
  ),
  /** What the cluster cannot say: the operator does. */
  facts: HostFacts,
});

/**
 * A node of Kubernetes, as its operator describes it in a file. Throws ControlError 'bad-request'.
 */
export function kubernetesHost(text: string, deadline: () => AbortSignal): Vmm {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new ControlError('bad-request', 'the description of the node is no JSON', { cause });
  }
  const read = document.safeParse(json);
  if (!read.success) {
    const [issue] = read.error.issues;
    const where = issue!.path.map(String).join('.');
    throw new ControlError(
      'bad-request',
      `the description of the node: ${where}: ${issue!.message}`,
    );
  }
  const { url, tokenFile, caFile, namespace, facts, ...options } = read.data;
  const token = () => (tokenFile === null ? null : readText(tokenFile).trim());
  const authority = caFile === null ? null : readText(caFile);
  const api = new KubernetesApi({ url, token, authority, deadline }, namespace);
  return new KubernetesVmm({ ...options, api, facts: async () => facts });
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    const message = `${path} cannot be read: ${(cause as Error).message}`;
    throw new ControlError('vmm-unavailable', message, { cause });
  }
}
