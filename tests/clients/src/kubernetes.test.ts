import {
  KubernetesApi,
  KubernetesVmm,
  pretendedFacts,
  startKubernetesApi,
} from '@bridgekeeper/control/testing';
import { CoreV1Api, KubeConfig, ResourceV1Api } from '@kubernetes/client-node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

// Kubernetes' own client, made from its API's description: what we write is what that describes,
// and the server of our tests is one that it understands.

const REPLICA = 'rep_01m8mdytegnhfv7zk29qcntz9e';
const NAME = 'bk-rep-01m8mdytegnhfv7zk29qcntz9e';
const namespace = 'tenants';

let server: Awaited<ReturnType<typeof startKubernetesApi>>;
let config: KubeConfig;

beforeEach(async () => {
  server = await startKubernetesApi('token');
  const deadline = () => new AbortController().signal;
  const address = { url: server.url, token: () => 'token', authority: null, deadline };
  const image = {
    image: 'registry.example/llama@sha256:00',
    runtimeClass: 'kata-qemu-nvidia-gpu-tdx',
    arguments: ['serve'],
    vcpus: 8,
    memoryMib: 65_536,
    port: 8000,
    annotations: { policy: 'covered by evidence' },
  };
  await new KubernetesVmm({
    api: new KubernetesApi(address, namespace),
    node: 'node-7',
    deviceClass: 'vfio.gpu.nvidia.com',
    images: { trial: image },
    facts: async () => pretendedFacts('host'),
  }).create({
    replica: REPLICA,
    epoch: 1,
    image: 'trial',
    models: ['story'],
    modules: [1, 2],
    partition: 3,
    credential: 'secret',
    inFlightMax: 4,
  });
  config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: 'test', server: server.url, skipTLSVerify: true }],
    users: [{ name: 'test', token: 'token' }],
    contexts: [{ name: 'test', cluster: 'test', user: 'test' }],
    currentContext: 'test',
  });
});

afterEach(() => server.close());

/** As it was written: without what a server adds. */
function bare({ metadata: { name, labels, annotations }, status: _, ...rest }: Written) {
  return { ...rest, metadata: { name, labels, ...(annotations && { annotations }) } };
}

type Written = ReturnType<typeof server.objects>[number];

describe('guests of Kubernetes', () => {
  test('are made of objects whose every field the API describes', async () => {
    // The client writes what the description has, and leaves out all else.
    const core = config.makeApiClient(CoreV1Api);
    const resources = config.makeApiClient(ResourceV1Api);
    const kinds = ['pods', 'secrets', 'resourceclaims'] as const;
    const written = kinds.map((plural) => bare(server.objects(plural)[0]));
    const [pod, secret, claim] = written;
    const copy = 'copies';
    await core.createNamespacedPod({ namespace: copy, body: pod });
    await core.createNamespacedSecret({ namespace: copy, body: secret });
    await resources.createNamespacedResourceClaim({ namespace: copy, body: claim });
    expect(kinds.map((plural) => bare(server.objects(plural)[1]))).toEqual(written);
  });

  test('are seen by its client, which is refused as a cluster refuses', async () => {
    const core = config.makeApiClient(CoreV1Api);
    const labelSelector = 'bridgekeeper-host=node-7';
    const { items } = await core.listNamespacedPod({ namespace, labelSelector });
    expect(items.map(({ metadata }) => metadata?.name)).toEqual([NAME]);
    const resources = config.makeApiClient(ResourceV1Api);
    const claim = await resources.readNamespacedResourceClaim({ namespace, name: NAME });
    expect(claim.spec.devices?.constraints?.[0]?.matchAttribute).toBe('gpu.nvidia.com/partition2');
    const body = { metadata: { name: NAME }, spec: { containers: [] } };
    await expect(core.createNamespacedPod({ namespace, body })).rejects.toMatchObject({
      code: 409,
    });
    const other = { preconditions: { uid: 'of another' } };
    const deleted = core.deleteNamespacedPod({ namespace, name: NAME, body: other });
    await expect(deleted).rejects.toMatchObject({ code: 409 });
  });
});
