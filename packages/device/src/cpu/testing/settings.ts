import { profileLaw, referenceProfile } from '@bridgekeeper/bridge';
import type { CpuDeviceOptions } from '../cpu-device.ts';

/** Ways to open the device, all of which keep the contract. */
export const SETTINGS: readonly (readonly [string, CpuDeviceOptions])[] = [
  ['one thread', { threads: 1 }],
  ['two threads', { threads: 2 }],
  [
    'two threads under a blocking law',
    { threads: 2, law: profileLaw(referenceProfile('h100-cc')) },
  ],
  [
    'three threads under a law without blocking',
    { threads: 3, law: profileLaw(referenceProfile('h100-native')) },
  ],
];
