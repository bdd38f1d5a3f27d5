import { readFileSync } from 'node:fs';
import {
  isReferenceProfileName,
  type Profile,
  ProfileError,
  REFERENCE_PROFILE_NAMES,
  referenceProfile,
} from '@bridgekeeper/bridge';
import {
  cudaAvailability,
  type DeviceKind,
  readConfidentialState,
  type StorageFormat,
} from '@bridgekeeper/device';
import {
  type BurstLimits,
  burstSteps,
  type EngineLimits,
  type PolicyName,
} from '@bridgekeeper/engine';
import type { SealPolicy } from '@bridgekeeper/engine/seal';
import { UsageError } from '../../settings/resolve.ts';
import type { Settings } from '../../settings/table.ts';
import { assumeProfile } from './assume-profile.ts';
import { chooseLoading } from './choose-loading.ts';
import type { Decision } from './decision.ts';
import type { EngineConfig } from './engine-config.ts';
import { readMeasuredProfile } from './measured-profiles.ts';
import { parseProfileFile } from './profile-file.ts';
import { readSpeculativeConfig } from './speculative-config.ts';

/**
 * Turns settings into a configuration, deciding what was left open and saying why. `seal` is what
 * was read of them. Throws UsageError.
 */
export function configureEngine(settings: Settings, seal: SealPolicy): EngineConfig {
  const device = chooseDevice(settings.device);
  const law = chooseLaw(settings.law, device.value);
  const bridge = chooseBridge(law, device.value);
  const interTokenLimitNs = settings.interTokenLimitMs * 1e6;
  const burst = { tollNs: tollOf(bridge.value), interTokenLimitNs };
  checkElement(settings.dtype, device.value);
  const loading = chooseLoading({
    model: settings.model,
    deviceKind: device.value,
    law: law.value,
    bridge: bridge.value,
    gpuUuid: device.value === 'cuda' ? (cudaAvailability().gpu?.uuid ?? null) : null,
    gpus: settings.tensorParallelSize,
  });
  return {
    model: settings.model,
    seal,
    task: settings.task === 'auto' ? 'generate' : settings.task,
    loadFormat: settings.loadFormat,
    quantization: settings.quantization,
    kvFormat: chooseKvFormat(settings.kvCacheDtype, device.value),
    device,
    ranks: settings.tensorParallelSize,
    expertParallel: expertParallelOf(settings),
    firstGpu: 0,
    law,
    bridge,
    policy: choosePolicy(settings.policy, bridge.value, burst),
    loading,
    modelledGpu: null,
    limits: limitsOf(settings, burst),
  };
}

function limitsOf(settings: Settings, burst: BurstLimits): EngineLimits {
  const { speculativeConfig } = settings;
  return {
    burst,
    maxModelTokens: settings.maxModelLen,
    maxRows: settings.maxNumSeqs,
    maxBatchTokens: settings.maxNumBatchedTokens,
    pageTokens: settings.blockSize,
    memoryUtilization: settings.gpuMemoryUtilization,
    kvBytes: settings.kvCacheMemoryBytes,
    prefixCaching: settings.enablePrefixCaching,
    snapshots: settings.stateSnapshots,
    chunkedPrefill: settings.enableChunkedPrefill,
    maxWaiting: settings.maxWaitingRequests,
    seed: settings.seed,
    tiers: tiersOf(settings),
    ...(speculativeConfig === undefined
      ? {}
      : { speculation: readSpeculativeConfig(speculativeConfig) }),
  };
}

/** Throws UsageError where there is one GPU to a model: other engines' experts are not shared. */
function expertParallelOf({ enableExpertParallel, tensorParallelSize }: Settings): boolean {
  if (!enableExpertParallel || tensorParallelSize > 1) return enableExpertParallel;
  throw new UsageError(
    'bad-value',
    '--enable-expert-parallel shares experts out to the GPUs of one model: give it ' +
      '--tensor-parallel-size 2 or more, too; each engine of --data-parallel-size has all experts',
  );
}

const GIB = 2 ** 30;

/** Where KV goes that leaves the device. */
function tiersOf(settings: Settings): EngineLimits['tiers'] {
  const { kvOffloadingSize, kvDiskPath, kvDiskSize, kvSpillShare, kvTierPolicy } = settings;
  if (kvOffloadingSize === undefined) {
    if (kvDiskPath === undefined) return undefined;
    throw new UsageError(
      'bad-value',
      '--kv-disk-path: KV goes to disk by way of host memory; give it --kv-offloading-size, too',
    );
  }
  if (!settings.enablePrefixCaching) {
    throw new UsageError(
      'bad-value',
      '--kv-offloading-size keeps pages for prompts that begin alike: it needs ' +
        '--enable-prefix-caching',
    );
  }
  const disk =
    kvDiskPath === undefined ? null : { folder: kvDiskPath, bytes: Math.floor(kvDiskSize * GIB) };
  const hostBytes = Math.floor(kvOffloadingSize * GIB);
  return { hostBytes, disk, spillLaneShare: kvSpillShare, policy: kvTierPolicy };
}

/** Where the model runs. */
export function chooseDevice(wish: Settings['device']): Decision<DeviceKind> {
  if (wish !== 'auto') return { value: wish, reason: `--device ${wish}` };
  const cuda = cudaAvailability();
  if (cuda.available) return { value: 'cuda', reason: `found ${cuda.detail}` };
  return { value: 'cpu', reason: `no usable GPU: ${cuda.detail}` };
}

/** The name that reports and metrics give a law. */
export function lawName(law: Profile | null): string {
  return law === null ? 'off' : law.name;
}

const EMULATE = 'emulate:';

/** Reads `--law`: auto, off, emulate:<reference profile>, or a profile's path. */
export function chooseLaw(wish: string, device: DeviceKind): Decision<Profile | null> {
  if (wish === 'off') return { value: null, reason: '--law off' };
  if (wish === 'auto') {
    if (device !== 'model') return { value: null, reason: 'no law is imposed unless asked for' };
    return { value: referenceProfile('h100-native'), reason: 'a modelled GPU needs some law' };
  }
  if (!wish.startsWith(EMULATE)) {
    return { value: readProfile(wish), reason: `--law ${wish}` };
  }
  const name = wish.slice(EMULATE.length);
  if (!isReferenceProfileName(name)) {
    const known = REFERENCE_PROFILE_NAMES.join(', ');
    throw new UsageError('bad-value', `--law: no reference profile "${name}"; there are ${known}`);
  }
  return { value: referenceProfile(name), reason: `--law ${wish}` };
}

function readProfile(path: string): Profile {
  try {
    return parseProfileFile(readFileSync(path, 'utf8'));
  } catch (error) {
    const reason = error instanceof ProfileError ? error.message : `cannot be read: ${error}`;
    throw new UsageError('bad-file', `--law ${path}: ${reason}`, { cause: error });
  }
}

/** What describes the bridge: a law that is imposed rules; else the machine is asked. */
function chooseBridge(law: Decision<Profile | null>, device: DeviceKind): EngineConfig['bridge'] {
  if (law.value !== null) return { value: law.value, reason: `the law in force, ${law.reason}` };
  const state = device === 'cuda' ? readConfidentialState() : undefined;
  const gpu = device === 'cuda' ? cudaAvailability().gpu : null;
  const { profile, reason, warning } = assumeProfile({
    deviceKind: device,
    gpuName: gpu?.name ?? null,
    gpuUuid: gpu?.uuid ?? null,
    confidential: state?.known === true ? state.confidential : null,
    readProfile: readMeasuredProfile,
  });
  const seen = state === undefined ? reason : `${reason}; ${state.reason}`;
  return { value: profile, reason: seen, ...(warning === undefined ? {} : { warning }) };
}

/** What `auto` takes on a bridge like that, why, and the limits that its bursts follow. */
export function policyOn(
  bridge: Profile,
  interTokenLimitNs: number,
): { readonly policy: Decision<PolicyName>; readonly burst: BurstLimits } {
  const burst = { tollNs: tollOf(bridge), interTokenLimitNs };
  return { policy: choosePolicy('auto', bridge, burst), burst };
}

/** What one small drain pays, at worst, wherever it is issued. */
function tollOf(profile: Profile | null): number {
  if (profile === null) return 0;
  const { idleTollNs, queuedTollNs } = profile.crossings.d2h.pinned;
  return idleTollNs + queuedTollNs;
}

/** The launching thread's context, and one for each of the lanes of commands and drains. */
const RESIDENT_CONTEXTS = 3;

/** A step of an 8B model on one GPU, to say in the log what a toll leads to. */
const EXAMPLE_STEP_NS = 10e6;

function choosePolicy(
  wish: Settings['policy'],
  bridge: Profile | null,
  burst: BurstLimits,
): Decision<PolicyName> {
  if (wish !== 'auto') return { value: wish, reason: `--policy ${wish}` };
  if (bridge === null) {
    return { value: 'drain-first', reason: 'no bridge lies between host and device' };
  }
  if (bridge.contexts.max < RESIDENT_CONTEXTS) {
    const reason = `${bridge.name} allows ${bridge.contexts.max} contexts, too few for lanes`;
    return { value: 'drain-first', reason };
  }
  const steps = burstSteps(burst, EXAMPLE_STEP_NS);
  const reason =
    `a drain on ${bridge.name} pays ${burst.tollNs / 1e3} us, on a lane beside the steps: K is ` +
    'the least with which that lane keeps up, in bursts of at most ' +
    `${burst.interTokenLimitNs / 1e6} ms; at ${EXAMPLE_STEP_NS / 1e6} ms a step K = ${steps}, ` +
    'and it follows what is measured';
  return { value: 'resident', reason };
}

const ELEMENTS = { cpu: 'float32', cuda: 'bfloat16', model: 'bfloat16' } as const;

/** Each device computes in one element type; asking for it is fine, asking for another is not. */
function checkElement(wish: Settings['dtype'], device: DeviceKind): void {
  if (wish === 'auto' || wish === ELEMENTS[device]) return;
  const message = `--dtype ${wish}: the ${device} device stores weights as ${ELEMENTS[device]}`;
  throw new UsageError('bad-value', `${message}; leave it at auto`);
}

/** vLLM's names: `fp8` is E4M3, and `auto` is what the device computes in. */
function chooseKvFormat(wish: Settings['kvCacheDtype'], device: DeviceKind): StorageFormat {
  if (wish === 'fp8' || wish === 'fp8_e4m3') return 'fp8-e4m3';
  if (wish === 'auto' || wish === ELEMENTS[device]) return 'element';
  const message = `--kv-cache-dtype ${wish}: the ${device} device stores KV as ${ELEMENTS[device]}`;
  throw new UsageError('bad-value', `${message}, or as fp8; leave it at auto`);
}
