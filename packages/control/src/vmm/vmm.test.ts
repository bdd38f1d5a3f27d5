import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { SYSTEM_TIME } from '../system.ts';
import { startDstackVmm } from '../testing/dstack-vmm.ts';
import { startKubernetesApi } from '../testing/kubernetes-api.ts';
import { DstackVmm } from './dstack.ts';
import { KubernetesVmm } from './kubernetes.ts';
import { KubernetesApi } from './kubernetes-api.ts';
import { pretendedFacts } from './pretended.ts';
import { ProcessVmm } from './process.ts';
import type { Guest, GuestSpec, Vmm } from './vmm.ts';

const SPEC: GuestSpec = {
  replica: 'rep_01m8mdytegnhfv7zk29qcntz9e',
  epoch: 1,
  image: 'trial',
  models: ['story'],
  modules: [1, 2],
  partition: 3,
  credential: 'secret',
  inFlightMax: 4,
};
const OTHER = { ...SPEC, replica: 'rep_01m8mdytegnhfv7zk29qcntz9f', modules: [3] };

/** What a test has besides a VMM: another one over the same guests, and time. */
interface Bench {
  readonly open: () => Vmm;
  readonly settle: () => Promise<void>;
  readonly close: () => void;
}

/** What every VMM promises. */
function contract(start: () => Promise<Bench>) {
  let bench: Bench;
  let vmm: Vmm;
  beforeEach(async () => {
    bench = await start();
    vmm = bench.open();
  });
  afterEach(async () => {
    for (const { replica } of await vmm.list()) await gone(replica);
    bench.close();
  });

  async function until(holds: (guests: readonly Guest[]) => boolean): Promise<readonly Guest[]> {
    for (let round = 0; round < 400; round += 1) {
      const guests = await vmm.list();
      if (holds(guests)) return guests;
      await bench.settle();
    }
    return expect.fail('it did not come about');
  }
  const running = (replica: string) =>
    until((guests) => guests.find((one) => one.replica === replica)?.state === 'running');
  async function gone(replica: string): Promise<void> {
    for (let round = 0; round < 400; round += 1) {
      await vmm.remove(replica);
      if (!(await vmm.list()).some((one) => one.replica === replica)) return;
      await bench.settle();
    }
    expect.fail('it is still there');
  }

  it('has nothing at first', async () => {
    expect(await vmm.list()).toEqual([]);
    expect((await vmm.facts()).gpus).toHaveLength(8);
  });

  it('starts a guest, and says where it answers', async () => {
    await vmm.create(SPEC);
    const [guest] = await running(SPEC.replica);
    expect(guest!.address).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  });

  it('never makes a second one of the same replica', async () => {
    await vmm.create(SPEC);
    await vmm.create(SPEC);
    await running(SPEC.replica);
    await vmm.create(SPEC);
    expect(await vmm.list()).toHaveLength(1);
  });

  it('shows its guests to who comes after it', async () => {
    await vmm.create(SPEC);
    await running(SPEC.replica);
    vmm = bench.open();
    expect(await vmm.list()).toMatchObject([{ replica: SPEC.replica, state: 'running' }]);
    await vmm.create(SPEC);
    expect(await vmm.list()).toHaveLength(1);
  });

  it('gives guests addresses of their own', async () => {
    await vmm.create(SPEC);
    await vmm.create(OTHER);
    await running(SPEC.replica);
    const guests = await running(OTHER.replica);
    expect(new Set(guests.map(({ address }) => address)).size).toBe(2);
  });

  it('removes one guest and no other, and what is not there, too', async () => {
    await vmm.create(SPEC);
    await vmm.create(OTHER);
    await running(OTHER.replica);
    await gone(SPEC.replica);
    await vmm.remove(SPEC.replica);
    expect((await vmm.list()).map(({ replica }) => replica)).toEqual([OTHER.replica]);
  });

  it('says of a guest that was asked to end once that it has ended', async () => {
    await vmm.create(SPEC);
    await running(SPEC.replica);
    await vmm.remove(SPEC.replica);
    await until(([guest]) => guest === undefined || guest.state === 'failed');
    await vmm.remove(SPEC.replica);
    expect(await vmm.list()).toEqual([]);
  });

  it('starts nothing of an image that the host does not name', async () => {
    await vmm.create({ ...SPEC, image: 'rm -rf' }).catch(() => undefined);
    expect((await vmm.list()).filter(({ state }) => state !== 'failed')).toEqual([]);
  });
}

describe('guests that are processes', () => {
  const server = `require('node:http').createServer().listen(0, '127.0.0.1', function () {
    console.log('http://127.0.0.1:' + this.address().port);
  })`;
  contract(async () => {
    const folder = mkdtempSync(join(tmpdir(), 'bk-guests-'));
    const program = join(folder, 'server.cjs');
    writeFileSync(program, server);
    return {
      open: () =>
        new ProcessVmm({
          folder: join(folder, 'guests'),
          facts: pretendedFacts('host'),
          images: { trial: { program: process.execPath, arguments: [program] } },
          environment: {},
        }),
      settle: () => SYSTEM_TIME.sleep(20),
      close: () => rmSync(folder, { recursive: true, force: true }),
    };
  });
});

describe('guests of dstack-vmm, by its API’s description', () => {
  let fake: Awaited<ReturnType<typeof startDstackVmm>>;
  const open = () =>
    new DstackVmm({
      url: fake.url,
      token: 'token',
      images: {
        trial: {
          image: 'dstack-nvidia',
          composeFile: '{}',
          vcpus: 8,
          memoryMib: 65_536,
          diskGib: 100,
          port: 8000,
        },
      },
      slots: { 1: '1b:00.0', 2: '43:00.0', 3: '52:00.0' },
      facts: async () => pretendedFacts('host'),
      ports: { host: '127.0.0.1', first: 20_000, count: 2 },
      deadline: () => new AbortController().signal,
    });
  contract(async () => {
    fake = await startDstackVmm('token');
    return { open, settle: async () => fake.settle(), close: () => fake.close() };
  });

  it('gives the guest the slots of its modules', async () => {
    await open().create(SPEC);
    const [vm] = [...fake.vms.values()];
    expect(vm!.configuration).toMatchObject({
      gpus: { attach_mode: 'listed', gpus: [{ slot: '1b:00.0' }, { slot: '43:00.0' }] },
    });
  });

  it('finds a guest whose creation was not answered', async () => {
    fake.fail('lose-answer');
    // The first call is the look whether there is one.
    await expect(open().create(SPEC)).rejects.toMatchObject({ code: 'vmm-unavailable' });
    await open().create(SPEC);
    await open().create(SPEC);
    expect(fake.vms.size).toBe(1);
  });

  it('says what it refuses, and what is not known', async () => {
    fake.fail('refuse');
    await expect(open().list()).rejects.toMatchObject({ code: 'vmm-refused' });
    const unknown = open().create({ ...SPEC, modules: [8] });
    await expect(unknown).rejects.toMatchObject({ code: 'vmm-refused' });
    await open().create(SPEC);
    await open().create(OTHER);
    const third = { ...SPEC, replica: `${SPEC.replica.slice(0, -1)}g` };
    await expect(open().create(third)).rejects.toThrow('all 2 ports');
  });

  it('says why a guest failed', async () => {
    await open().create(SPEC);
    const [vm] = [...fake.vms.values()];
    vm!.boot_error = 'gpu attestation failed';
    expect(await open().list()).toMatchObject([
      { state: 'failed', progress: 'gpu attestation failed' },
    ]);
  });
});

describe('guests of Kubernetes, by its API’s conventions', () => {
  let fake: Awaited<ReturnType<typeof startKubernetesApi>>;
  const image = {
    image: 'registry.example/llama@sha256:00',
    runtimeClass: 'kata-qemu-nvidia-gpu-tdx',
    arguments: ['serve'],
    vcpus: 8,
    memoryMib: 65_536,
    port: 8000,
    annotations: { policy: 'covered by evidence' },
  };
  const open = () => {
    const deadline = () => new AbortController().signal;
    const address = { url: fake.url, token: () => 'token', authority: null, deadline };
    return new KubernetesVmm({
      api: new KubernetesApi(address, 'tenants', 2),
      node: 'node-7',
      deviceClass: 'vfio.gpu.nvidia.com',
      images: { trial: image },
      facts: async () => pretendedFacts('host'),
    });
  };
  contract(async () => {
    fake = await startKubernetesApi('token');
    return { open, settle: async () => fake.settle(), close: () => fake.close() };
  });

  it('claims exactly these modules, of one partition of their number', async () => {
    await open().create(SPEC);
    const [claim] = fake.objects('resourceclaims');
    expect(claim.spec.devices).toEqual({
      requests: [
        {
          name: 'gpus',
          exactly: {
            deviceClassName: 'vfio.gpu.nvidia.com',
            allocationMode: 'ExactCount',
            count: 2,
            selectors: [
              { cel: { expression: 'device.attributes["gpu.nvidia.com"].gpuModuleID in [1, 2]' } },
            ],
          },
        },
      ],
      constraints: [{ requests: ['gpus'], matchAttribute: 'gpu.nvidia.com/partition2' }],
    });
    const three = open().create({ ...OTHER, modules: [1, 2, 3] });
    await expect(three).rejects.toThrow('3 GPUs are no partition');
  });

  it('runs it in a confidential VM on this node, with its key where few read', async () => {
    await open().create({ ...SPEC, credential: 'bk-told-to-few' });
    const [pod] = fake.objects('pods');
    expect(pod.spec).toMatchObject({
      runtimeClassName: 'kata-qemu-nvidia-gpu-tdx',
      nodeSelector: { 'kubernetes.io/hostname': 'node-7' },
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
    });
    expect(JSON.stringify(pod)).not.toContain('bk-told-to-few');
    const [secret] = fake.objects('secrets');
    expect(secret.stringData.BRIDGEKEEPER_GATEWAY_KEY).toBe('bk-told-to-few');
  });

  it('leaves nothing behind, and never forgets a pod whose VM may run', async () => {
    const vmm = open();
    await vmm.create(SPEC);
    fake.settle();
    await vmm.remove(SPEC.replica);
    await vmm.remove(SPEC.replica);
    const [pod] = fake.objects('pods');
    expect(pod.metadata.deletionGracePeriodSeconds).toBe(1);
    expect(await vmm.list()).toMatchObject([{ state: 'stopping' }]);
    fake.settle();
    expect(await vmm.list()).toMatchObject([{ state: 'failed' }]);
    await vmm.remove(SPEC.replica);
    for (const kind of ['pods', 'secrets', 'resourceclaims'])
      expect(fake.objects(kind)).toEqual([]);
  });

  it('finds what was begun and came no further, after any answer that was lost', async () => {
    for (const lost of [1, 2, 3]) {
      const vmm = open();
      let calls = 0;
      const api = { create: KubernetesApi.prototype.create };
      KubernetesApi.prototype.create = function (...given) {
        calls += 1;
        if (calls === lost) fake.fail('lose-answer');
        return api.create.apply(this, given);
      };
      try {
        await expect(vmm.create(SPEC)).rejects.toMatchObject({ code: 'vmm-unavailable' });
      } finally {
        KubernetesApi.prototype.create = api.create;
      }
      expect(await vmm.list()).toHaveLength(1);
      await vmm.remove(SPEC.replica);
      fake.settle();
      await vmm.remove(SPEC.replica);
      expect(await vmm.list()).toEqual([]);
      expect(fake.objects('secrets')).toEqual([]);
    }
  });

  it('begins a list anew when what it continued is gone', async () => {
    const vmm = open();
    const replicas = ['b', 'c', 'd', 'e', 'f'].map((end) => `${SPEC.replica.slice(0, -1)}${end}`);
    for (const replica of replicas) await vmm.create({ ...SPEC, replica });
    fake.fail('expire-page');
    expect((await vmm.list()).map(({ replica }) => replica)).toEqual(replicas);
  });

  it.each([
    ['refuse', 'vmm-refused'],
    ['busy', 'vmm-unavailable'],
    ['no-json', 'vmm-unavailable'],
    ['lose-answer', 'vmm-unavailable'],
  ] as const)('says what an answer means: %s', async (fault, code) => {
    fake.fail(fault);
    await expect(open().list()).rejects.toMatchObject({ code });
    fake.fail(fault);
    await expect(open().create(SPEC)).rejects.toMatchObject({ code });
  });

  it('touches nothing that others labelled', async () => {
    await open().create(SPEC);
    const [pod] = fake.objects('pods');
    pod.metadata.labels['bridgekeeper-replica'] = OTHER.replica;
    expect(await open().list()).toMatchObject([{ state: 'failed', replica: SPEC.replica }]);
    pod.metadata.labels['bridgekeeper-replica'] = SPEC.replica;
  });

  it('says why a pod does not run', async () => {
    await open().create(SPEC);
    const [pod] = fake.objects('pods');
    pod.status = { conditions: [{ type: 'PodScheduled', status: 'False', message: 'no GPUs' }] };
    expect(await open().list()).toMatchObject([{ state: 'booting', progress: 'no GPUs' }]);
    pod.status = { phase: 'Failed', message: 'the VM did not start' };
    expect(await open().list()).toMatchObject([
      { state: 'failed', progress: 'its pod ended: the VM did not start' },
    ]);
  });
});
