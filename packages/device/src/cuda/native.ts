import type { ForbiddenFeature } from '@bridgekeeper/bridge';
import { Driver, NativeError } from '@bridgekeeper/native/threads';
import { DeviceError } from '../errors.ts';

// This device's border to NVIDIA's libraries. Every thread of it loads this module: it imports
// nothing that only the launching thread needs.

/** What users of the device see of a library's failure. For the bindings to throw by. */
export function deviceErrorOf({ code, message, cause }: NativeError): DeviceError {
  const options = cause === undefined ? {} : { cause };
  return new DeviceError(code === 'call-failed' ? 'launch-failed' : code, message, options);
}

/** Runs `action`; what a library failed with is thrown as a DeviceError. */
export function atBorder<Result>(action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    throw error instanceof NativeError ? deviceErrorOf(error) : error;
  }
}

/** Opens and initialises the driver. It throws DeviceError, now and at every call. */
export function openDriver(path?: string): Driver {
  return new Driver(path, deviceErrorOf);
}

/** Calls that use what a profile may forbid. Nothing that we run makes them. */
const CALL_OF = {
  'host-registration': 'cuMemHostRegister_v2',
  'mapped-host-reads': 'cuMemHostGetDevicePointer_v2',
  'event-timing': 'cuEventElapsedTime',
} as const satisfies Partial<Record<ForbiddenFeature, unknown>>;

/** From now on calls that use these fail as they would, or worse not fail, on such a machine. */
export function forbid(driver: Driver, features: readonly ForbiddenFeature[]): void {
  for (const [feature, name] of Object.entries(CALL_OF)) {
    if (!features.includes(feature as ForbiddenFeature)) continue;
    const why = 'which the law in force forbids: it fails or misleads there';
    const message = `${name} uses ${feature}, ${why}`;
    driver.refuse(name, () => new DeviceError('forbidden-under-cc', message));
  }
}
