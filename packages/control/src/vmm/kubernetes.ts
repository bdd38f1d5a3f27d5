import { z } from 'zod';
import type { HostFacts } from '../api/fleet.ts';
import { ControlError } from '../errors.ts';
import type { KubernetesApi, KubernetesObject } from './kubernetes-api.ts';
import { type Guest, type GuestSpec, settingsOf, type Vmm } from './vmm.ts';

/** What an image's name means on a host of Kubernetes. */
export interface KubernetesImage {
  /** Of the container, by its digest where it is to be pinned. */
  readonly image: string;
  /** Kata's, which makes a confidential VM of a pod: `kata-qemu-nvidia-gpu-tdx`. */
  readonly runtimeClass: string;
  readonly arguments: readonly string[];
  readonly vcpus: number;
  readonly memoryMib: number;
  /** Where the replica's API is in the guest. */
  readonly port: number;
  /** Such as the policy of Kata's agent, which evidence covers. */
  readonly annotations: Readonly<Record<string, string>>;
}

export interface KubernetesOptions {
  readonly api: KubernetesApi;
  /** This host's name there: pods go to it and to no other. */
  readonly node: string;
  /** Of devices that are passed through to VMs, by NVIDIA's DRA driver. */
  readonly deviceClass: string;
  readonly images: Readonly<Record<string, KubernetesImage>>;
  /** What the cluster does not know: driver, partitions, identities. */
  readonly facts: () => Promise<HostFacts>;
}

const HOST = 'bridgekeeper-host';
const REPLICA = 'bridgekeeper-replica';
const REPLICA_ID = /^rep_[0-9a-z]{26}$/;
/** NVIDIA's driver says by these which module a GPU is, and in which partition of each size. */
const DRIVER = 'gpu.nvidia.com';
const PARTITION_SIZES = [1, 2, 4, 8];
/** A guest that is asked again has so long. Zero would forget it while its VM may still run. */
const LAST_SECONDS = 1;

const condition = z.object({
  type: z.string(),
  status: z.string(),
  message: z.string().default(''),
});
const containerStatus = z.object({
  state: z
    .object({
      waiting: z.object({ reason: z.string().default('') }).nullish(),
      terminated: z
        .object({ reason: z.string().default(''), exitCode: z.number().default(-1) })
        .nullish(),
    })
    .default({}),
});
const podStatus = z.object({
  phase: z.string().default('Pending'),
  reason: z.string().default(''),
  message: z.string().default(''),
  podIP: z.string().default(''),
  conditions: z.array(condition).default([]),
  containerStatuses: z.array(containerStatus).default([]),
});
const spec = z.object({
  containers: z.array(
    z.object({ ports: z.array(z.object({ containerPort: z.number() })).default([]) }),
  ),
});
const pod = z.object({ status: podStatus.default(podStatus.parse({})), spec });

/**
 * Guests that are pods of Kubernetes, each in a confidential VM by Kata, whose GPUs NVIDIA's DRA
 * driver passes through: a claim names their modules and demands one partition of that size. Names
 * follow from the replica, so that nothing is made twice. The claim is there first and goes last:
 * what was begun and came no further is found by it.
 */
export class KubernetesVmm implements Vmm {
  readonly #options: KubernetesOptions;

  constructor(options: KubernetesOptions) {
    this.#options = options;
  }

  async facts(): Promise<HostFacts> {
    return this.#options.facts();
  }

  async list(): Promise<readonly Guest[]> {
    // Claims first: a pod that is made between the two lists has its claim in neither or in one.
    const claims = await this.#own('claim');
    const pods = await this.#own('pod');
    const guests = new Map(
      claims.map((claim) => [replicaOf(claim), leftover(replicaOf(claim))] as const),
    );
    for (const each of pods) guests.set(replicaOf(each), guestOf(each));
    return [...guests.values()];
  }

  async create(wanted: GuestSpec): Promise<void> {
    const { api, images, node } = this.#options;
    const { replica, image: name } = wanted;
    const image = Object.hasOwn(images, name) ? images[name]! : null;
    if (image === null) {
      const names = Object.keys(images).join(', ');
      throw new ControlError('vmm-refused', `no image is called ${name}; there are ${names}`);
    }
    const metadata = { name: nameOf(replica), labels: { [HOST]: node, [REPLICA]: replica } };
    await api.create('claim', claimOf(wanted, this.#options.deviceClass, metadata));
    // Who may read pods need not be able to use replicas.
    await api.create('secret', {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata,
      type: 'Opaque',
      immutable: true,
      stringData: settingsOf(wanted),
    });
    await api.create('pod', podOf(wanted, image, node, metadata));
  }

  async remove(replica: string): Promise<void> {
    const { api } = this.#options;
    const pods = (await this.#own('pod')).filter((each) => replicaOf(each) === replica);
    for (const each of pods) {
      const isAgain = each.metadata.deletionTimestamp != null;
      await api.remove('pod', each, isAgain ? LAST_SECONDS : null);
    }
    if (pods.length > 0) return;
    for (const kind of ['secret', 'claim'] as const) {
      for (const each of await this.#own(kind)) {
        if (replicaOf(each) === replica) await api.remove(kind, each, null);
      }
    }
  }

  async giveKey(replica: string): Promise<void> {
    const message = `Kata's guests take keys from their key broker: ${replica} takes its own`;
    throw new ControlError('vmm-refused', message);
  }

  /** What is ours on this host; what somebody else labelled so is not touched. */
  async #own(kind: 'pod' | 'secret' | 'claim'): Promise<readonly KubernetesObject[]> {
    const { api, node } = this.#options;
    const all = await api.list(kind, `${HOST}=${node}`);
    return all.filter((each) => {
      const replica = replicaOf(each);
      return REPLICA_ID.test(replica) && each.metadata.name === nameOf(replica);
    });
  }
}

const replicaOf = ({ metadata }: KubernetesObject): string => metadata.labels[REPLICA] ?? '';

/** Names there are labels of DNS. */
const nameOf = (replica: string): string => `bk-${replica.replace('_', '-')}`;

interface Metadata {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** These modules, and no others, of one partition. */
function claimOf({ modules }: GuestSpec, deviceClassName: string, metadata: Metadata): object {
  const size = modules.length;
  if (!PARTITION_SIZES.includes(size)) {
    const sizes = PARTITION_SIZES.join(', ');
    throw new ControlError('vmm-refused', `${size} GPUs are no partition: there are ${sizes}`);
  }
  const expression = `device.attributes["${DRIVER}"].gpuModuleID in [${modules.join(', ')}]`;
  const exactly = {
    deviceClassName,
    allocationMode: 'ExactCount',
    count: size,
    selectors: [{ cel: { expression } }],
  };
  const constraints = [{ requests: ['gpus'], matchAttribute: `${DRIVER}/partition${size}` }];
  return {
    apiVersion: 'resource.k8s.io/v1',
    kind: 'ResourceClaim',
    metadata,
    spec: { devices: { requests: [{ name: 'gpus', exactly }], constraints } },
  };
}

function podOf(
  { models, inFlightMax }: GuestSpec,
  image: KubernetesImage,
  node: string,
  { name, labels }: Metadata,
): object {
  const named = models.flatMap((model) => ['--served-model-name', model]);
  const { port, vcpus, memoryMib } = image;
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels, annotations: image.annotations },
    spec: {
      runtimeClassName: image.runtimeClass,
      nodeSelector: { 'kubernetes.io/hostname': node },
      // One that is gone is never begun again: control has another one made.
      restartPolicy: 'Never',
      automountServiceAccountToken: false,
      enableServiceLinks: false,
      containers: [
        {
          name: 'replica',
          image: image.image,
          args: [...image.arguments, '--max-num-seqs', String(inFlightMax), ...named],
          envFrom: [{ secretRef: { name } }],
          ports: [{ containerPort: port, protocol: 'TCP' }],
          readinessProbe: { httpGet: { path: '/health', port }, periodSeconds: 2 },
          resources: {
            limits: { cpu: String(vcpus), memory: `${memoryMib}Mi` },
            claims: [{ name: 'gpus' }],
          },
        },
      ],
      resourceClaims: [{ name: 'gpus', resourceClaimName: name }],
    },
  };
}

/** A claim without its pod: its creation was not answered, or its pod is gone. */
function leftover(replica: string): Guest {
  return { replica, state: 'failed', progress: 'it has a claim and no pod', address: null };
}

function guestOf(each: KubernetesObject): Guest {
  const replica = replicaOf(each);
  const guest = (state: Guest['state'], progress: string, address: string | null = null) => ({
    replica,
    state,
    address,
    progress: progress.slice(0, 500),
  });
  if (each.metadata.deletionTimestamp != null) return guest('stopping', 'its pod is being deleted');
  const read = pod.safeParse(each);
  if (!read.success) return guest('failed', 'Kubernetes describes its pod as something else');
  const { status } = read.data;
  const [container] = status.containerStatuses;
  if (status.phase === 'Failed' || status.phase === 'Succeeded') {
    const ended = container?.state.terminated;
    const why = status.message || ended?.reason || status.reason || status.phase;
    return guest('failed', `its pod ended: ${why}${ended ? ` (${ended.exitCode})` : ''}`);
  }
  const isReady = status.conditions.some(
    ({ type, status: is }) => type === 'Ready' && is === 'True',
  );
  const port = read.data.spec.containers[0]?.ports[0]?.containerPort;
  if (isReady && status.podIP !== '' && port !== undefined) {
    const host = status.podIP.includes(':') ? `[${status.podIP}]` : status.podIP;
    return guest('running', 'ready', `http://${host}:${port}`);
  }
  const unscheduled = status.conditions.find(
    ({ type, status: is }) => type === 'PodScheduled' && is === 'False',
  );
  if (unscheduled !== undefined) return guest('booting', unscheduled.message);
  const waiting = container?.state.waiting?.reason ?? '';
  return guest('booting', waiting || status.phase);
}
