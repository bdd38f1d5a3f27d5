import type { Driver } from '@bridgekeeper/native';
import type { PeerRate } from '../../instruments.ts';
import type { Core } from '../core.ts';
import { createStream } from '../handles/handles.ts';

const COPIES = 8;
const SIGNATURES = {
  cuCtxGetCurrent: ['pointer'],
} as const;

/** Copies from the current context's GPU to each other that it can reach. Throws DeviceError. */
export function timePeers(core: Core, device: number, bytes: number): PeerRate[] {
  const { driver } = core;
  const count = driver.read('cuDeviceGetCount').i32;
  const rates: PeerRate[] = [];
  for (let to = 0; to < count; to++) {
    if (to === device || !canReach(driver, device, to)) continue;
    const bytesPerSecond = rateTo(core, to, bytes);
    rates.push({ from: device, to, bytesPerSecond });
  }
  return rates;
}

function optional<Name extends keyof typeof SIGNATURES>(driver: Driver, name: Name) {
  return driver.optional(name, SIGNATURES[name]) ?? (() => {});
}

function canReach(driver: Driver, from: number, to: number): boolean {
  return driver.read('cuDeviceCanAccessPeer', from, to).i32 !== 0;
}

function rateTo({ driver, clock }: Core, to: number, bytes: number): number {
  const cell = new BigUint64Array(1);
  optional(driver, 'cuCtxGetCurrent')(cell);
  const here = cell[0]!;
  const peer = driver.read('cuDevicePrimaryCtxRetain', to).pointer;
  const undo: (() => void)[] = [() => driver.release('cuDevicePrimaryCtxRelease_v2', to)];
  try {
    driver.call('cuCtxSetCurrent', peer);
    const target = driver.read('cuMemAlloc_v2', bytes).pointer;
    undo.push(() => driver.release('cuMemFree_v2', target));
    driver.call('cuCtxSetCurrent', here);
    const source = driver.read('cuMemAlloc_v2', bytes).pointer;
    undo.push(() => driver.release('cuMemFree_v2', source));
    const stream = createStream(driver, 'normal');
    undo.push(() => driver.release('cuStreamDestroy_v2', stream));
    driver.enablePeerAccess(peer);
    const timeNs = (copies: number) => {
      const startedNs = clock.nowNs();
      for (let i = 0; i < copies; i++) {
        driver.call('cuMemcpyPeerAsync', target, peer, source, here, bytes, stream);
      }
      driver.call('cuStreamSynchronize', stream);
      return clock.nowNs() - startedNs;
    };
    timeNs(1);
    return (COPIES * bytes * 1e9) / timeNs(COPIES);
  } finally {
    driver.call('cuCtxSetCurrent', here);
    for (const action of undo.reverse()) action();
  }
}
