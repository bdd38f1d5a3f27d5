import { readFileSync } from 'node:fs';
import {
  isReferenceProfileName,
  type Profile,
  ProfileError,
  parseProfile,
  REFERENCE_PROFILE_NAMES,
  referenceProfile,
} from '@bridgekeeper/bridge';
import { cudaAvailability, type DeviceKind } from '@bridgekeeper/device';
import type { PolicyName } from '@bridgekeeper/engine';
import { UsageError } from '../settings/resolve.ts';
import type { Settings } from '../settings/table.ts';
import type { Choice, EnginePlan } from './plan.ts';

/**
 * Turns settings into a plan, making every choice that was left open and saying why. Throws
 * UsageError.
 */
export function planEngine(settings: Settings): EnginePlan {
  const device = chooseDevice(settings.device);
  const law = chooseLaw(settings.law, device.value);
  checkElement(settings.dtype, device.value);
  return {
    model: settings.model,
    loadFormat: settings.loadFormat,
    device,
    law,
    policy: choosePolicy(settings.policy),
    maxModelTokens: settings.maxModelLen,
    maxRows: settings.maxNumSeqs,
    maxBatchTokens: settings.maxNumBatchedTokens,
    pageTokens: settings.blockSize,
    memoryUtilization: settings.gpuMemoryUtilization,
    kvBytes: settings.kvCacheMemoryBytes,
    prefixCaching: settings.enablePrefixCaching,
    chunkedPrefill: settings.enableChunkedPrefill,
    maxWaiting: settings.maxWaitingRequests,
    seed: settings.seed,
  };
}

function chooseDevice(wish: Settings['device']): Choice<DeviceKind> {
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
export function chooseLaw(wish: string, device: DeviceKind): Choice<Profile | null> {
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
    return parseProfile(JSON.parse(readFileSync(path, 'utf8')));
  } catch (error) {
    const reason = error instanceof ProfileError ? error.message : `cannot be read: ${error}`;
    throw new UsageError('bad-file', `--law ${path}: ${reason}`, { cause: error });
  }
}

function choosePolicy(wish: Settings['policy']): Choice<PolicyName> {
  if (wish !== 'auto') return { value: wish, reason: `--policy ${wish}` };
  return { value: 'drain-first', reason: 'it never issues a copy behind queued work' };
}

const ELEMENTS = { cpu: 'float32', cuda: 'bfloat16', model: 'bfloat16' } as const;

/** Each device computes in one element type; asking for it is fine, asking for another is not. */
function checkElement(wish: Settings['dtype'], device: DeviceKind): void {
  if (wish === 'auto' || wish === ELEMENTS[device]) return;
  const message = `--dtype ${wish}: the ${device} device stores weights as ${ELEMENTS[device]}`;
  throw new UsageError('bad-value', `${message}; leave it at auto`);
}
