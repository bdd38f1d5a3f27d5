import { type HostMemoryKind, invariant, type Profile, SHARED_TENANT } from '@bridgekeeper/bridge';
import { type Device, type HostHandle, type Slice, type Stream, slice } from '@bridgekeeper/device';
import type { KvPart } from '../kv/tiers/movement.ts';
import type { TierPolicyName } from '../kv/tiers/policies.ts';
import type { KvPrices } from '../kv/tiers/prices.ts';
import type { Route } from '../traffic/route.ts';
import type { Traffic } from '../traffic/traffic.ts';
import { DiskMeter } from './disk-meter.ts';
import { DiskStore } from './disk-store.ts';
import { HostStore } from './host-store.ts';
import {
  crossingBytesFor,
  hostMemoryFor,
  LaneBudget,
  LaneMeter,
  lanePriceOf,
} from './lane-budget.ts';
import { PageMover } from './page-mover.ts';
import { type PartPool, type PartSize, partLaneNs, pieceBytesOf } from './part-places.ts';
import { slotsOf, type UsualContexts } from './store-slots.ts';
import { StoreThread } from './store-thread.ts';

/** What pages may go to when they leave the device. Plain data. */
export interface TierLimits {
  readonly hostBytes: number;
  /** Behind the host; null: nothing is. */
  readonly disk: { readonly folder: string; readonly bytes: number } | null;
  /** Of the lane's time, spills may take so much. */
  readonly spillLaneShare: number;
  /** What goes where, and what gives way. */
  readonly policy: TierPolicyName;
  /** As much as crosses at once; undefined: what the bridge's price asks for. */
  readonly crossingBytes?: number | undefined;
}

export interface TiersRequest {
  readonly device: Device;
  readonly traffic: Traffic;
  /** What is known of the bridge. */
  readonly profile: Profile | null;
  readonly limits: TierLimits;
  /** Of the model; the first is `context`. */
  readonly parts: readonly (Omit<PartPool, 'pieceBytes'> & {
    /** By default pages cross whole, and states in pieces of what should cross at once. */
    readonly pieceBytes?: number | undefined;
  })[];
  /** By which stores are divided among parts. */
  readonly usual: UsualContexts;
  /** The model that these are of, as exactly as is known. */
  readonly model: string;
  /** Host memory that could be had now. */
  readonly availableHostBytes: () => number;
  readonly stream: Stream;
  readonly spillStaging: Slice;
  readonly restoreStaging: Slice;
}

/** Tiers that are open, for as long as the engine is. */
export interface OpenTiers {
  readonly mover: PageMover;
  readonly host: HostStore;
  readonly disk: DiskStore | null;
  readonly policy: TierPolicyName;
  /** What moving a part costs by now. */
  readonly prices: Pick<KvPrices, 'readNs' | 'writeNs'>;
  /** Ends threads and gives memory back. Nothing is asked of the mover any more. */
  close(): Promise<void>;
}

const HOST_BLOCK_BYTES = 64 * 2 ** 20;
/** Restores whose crossing is under way, and whose pages are being written. */
const RESTORE_CROSSINGS = 8;
/** An eviction lets go of a prompt's worth of pages at once: what staging does not hold is lost. */
const SPILL_MEMORY_SHARE = 1 / 64;
const SPILL_BYTES_MAX = 2 ** 31;
const BOUNCES = 2;
const MEASURED_BYTES = 4 * 2 ** 20;

/**
 * Bytes of device memory in which pages lie side by side while they cross. A state is there whole
 * when it is spilled, since its place is another's at once, and piece by piece when it is restored.
 */
export function stagingBytes(
  profile: Profile | null,
  { pageBytes, stateBytes }: { readonly pageBytes: number; readonly stateBytes: number },
  memoryBytes: number,
  { crossingBytes }: TierLimits,
): { readonly spillBytes: number; readonly restoreBytes: number } {
  const crossing = crossingBytes ?? crossingBytesOn(profile);
  const whole = (bytes: number) => Math.ceil(bytes / pageBytes) * pageBytes;
  const least = whole(Math.max(4 * pageBytes, 2 * crossing));
  const spills = whole(Math.min(SPILL_BYTES_MAX, memoryBytes * SPILL_MEMORY_SHARE));
  return {
    spillBytes: Math.max(least + stateBytes, spills),
    restoreBytes: Math.max(least, whole(RESTORE_CROSSINGS * crossing)),
  };
}

function crossingBytesOn(profile: Profile | null): number {
  // The kind of memory that is cheaper in bulk; its toll decides how much that is.
  const memory = hostMemoryFor(profile, HOST_BLOCK_BYTES);
  return crossingBytesFor(lanePriceOf(profile, memory));
}

/** What a crossing each way takes, where nothing is known of the bridge. */
async function measure(
  route: Route,
  device: Device,
  staging: Slice,
  memory: HostMemoryKind,
  meter: LaneMeter,
): Promise<void> {
  const bytes = Math.min(staging.bytes, MEASURED_BYTES);
  const host = device.allocateHost(bytes, memory, 'kv probe');
  const there = slice(staging.buffer, staging.offsetBytes, bytes);
  // What crosses for the first time takes longer.
  for (const direction of ['d2h', 'h2d', 'd2h', 'h2d'] as const) {
    const [record] = await route.cross({
      direction,
      device: there,
      host,
      hostOffsetBytes: 0,
      stream: null,
      purpose: 'probe',
      tenant: SHARED_TENANT,
    });
    meter.observe(direction, bytes, record!.completedNs - record!.startedNs, 1);
  }
  device.freeHost(host);
}

/**
 * Opens a lane, the stores and the mover between them and the device. Host memory grows in the
 * background from then on. Throws DeviceError where there is no lane, and Error, with the system's
 * words, where the disk's folder cannot be written to.
 */
export async function openTiers(request: TiersRequest): Promise<OpenTiers> {
  const { device, traffic, profile, limits, usual, model, stream } = request;
  const { spillStaging, restoreStaging } = request;
  const crossingBytes = limits.crossingBytes ?? crossingBytesOn(profile);
  const memory = hostMemoryFor(profile, crossingBytes);
  const meter = new LaneMeter(lanePriceOf(profile, memory));
  const parts = request.parts.map((pool): PartPool => {
    const { part, bytes } = pool;
    const pieceBytes = part === 'state' ? pieceBytesOf(bytes, crossingBytes) : bytes;
    return { ...pool, pieceBytes: pool.pieceBytes ?? pieceBytes };
  });
  const isHollow = device.info.isHollow === true;
  const disk = limits.disk;
  const thread = isHollow
    ? null
    : await StoreThread.open({ disk: disk === null ? null : { folder: disk.folder, model } });
  const host = new HostStore({
    device,
    memory,
    parts,
    slots: slotsOf(limits.hostBytes, parts, usual),
    blockBytes: Math.max(HOST_BLOCK_BYTES, crossingBytes),
    availableBytes: request.availableHostBytes,
    touch: async (handle: HostHandle) => {
      await thread?.do({ kind: 'touch', host: handle });
    },
  });
  const diskStore =
    thread === null || disk === null
      ? null
      : new DiskStore({
          thread,
          parts,
          slots: slotsOf(disk.bytes, parts, usual),
          meter: new DiskMeter(() => device.clock.nowNs()),
        });
  const bounceBytes = Math.max(crossingBytes, ...parts.map(({ pieceBytes }) => pieceBytes));
  const bounces = Array.from({ length: diskStore === null ? 0 : BOUNCES }, (_, i) =>
    device.allocateHost(bounceBytes, memory, `kv from disk ${i}`),
  );
  const route = await traffic.openRoute('kv');
  if (profile === null) await measure(route, device, restoreStaging, memory, meter);
  const mover = new PageMover({
    device,
    parts,
    stream,
    route,
    host,
    disk: diskStore,
    bounces,
    spillStaging,
    restoreStaging,
    crossingBytes,
    meter,
    budget: new LaneBudget(limits.spillLaneShare, device.clock.nowNs()),
  });
  await mover.warmUp();
  const sizeOf = (part: KvPart): PartSize => {
    const size = parts.find((each) => each.part === part);
    invariant(size !== undefined, 'what the model has not has no price');
    return size;
  };
  return {
    mover,
    host,
    disk: diskStore,
    policy: limits.policy,
    prices: {
      readNs: (tier, part = 'context') => {
        const size = sizeOf(part);
        const diskNs = tier === 'disk' ? (diskStore?.meter.price('read', size.bytes) ?? 0) : 0;
        return diskNs + partLaneNs(meter.price, 'h2d', size, crossingBytes);
      },
      // What goes on to the disk is in host memory, and takes nothing of the lane.
      writeNs: (tier, part = 'context') => {
        const size = sizeOf(part);
        if (tier === 'disk') return diskStore?.meter.price('write', size.bytes) ?? 0;
        return partLaneNs(meter.price, 'd2h', size, crossingBytes);
      },
    },
    close: async () => {
      mover.dropAll();
      await mover.idle();
      await traffic.closeRoute(route);
      host.close();
      for (const bounce of bounces) device.freeHost(bounce);
      await thread?.close();
    },
  };
}
