import type { Device } from '../device.ts';

/**
 * Inputs and expected results of cases by what they are, and how many numbers were drawn then: made
 * once where several devices are held to a case.
 */
export type MadeOnce = Map<string, { readonly value: unknown; readonly draws: number }>;

/**
 * One promise that every device keeps. `run` throws, with a message fit for a report, when it is
 * broken.
 */
export interface ContractCase {
  readonly name: string;
  /** Needs real results of arithmetic operations, which a virtual device has none of. */
  readonly arithmetic: boolean;
  /** Leaves the device closed: give it one of its own. */
  readonly closesDevice: boolean;
  run(device: Device, made?: MadeOnce): Promise<void>;
}

/** A case that any device can run and that leaves it as it was. */
export function plainCase(name: string, run: (device: Device) => Promise<void>): ContractCase {
  return { name, arithmetic: false, closesDevice: false, run };
}

/** A broken contract: the message says what was expected and what came. */
class ContractError extends Error {
  override readonly name = 'ContractError';
}

export function expectThat(condition: boolean, message: string): asserts condition {
  if (!condition) throw new ContractError(message);
}

// The two below look at millions of values: a message is made only for one that is wrong.

/** Compares words exactly. */
export function expectSame(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
): void {
  expectThat(
    actual.length === expected.length,
    `${what}: ${actual.length} values, expected ${expected.length}`,
  );
  for (let i = 0; i < expected.length; i++) {
    if (actual[i] === expected[i]) continue;
    throw new ContractError(`${what}: value ${i} is ${actual[i]}, expected ${expected[i]}`);
  }
}

/**
 * Compares by the norm of the difference over the norm of `expected`, which catches what single
 * values hide.
 */
export function expectClose(
  what: string,
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  tolerance: number,
): void {
  expectThat(
    actual.length === expected.length,
    `${what}: ${actual.length} values, expected ${expected.length}`,
  );
  let difference = 0;
  let norm = 0;
  let worst = 0;
  let worstGap = -1;
  for (let i = 0; i < expected.length; i++) {
    const gap = Math.abs(actual[i]! - expected[i]!);
    if (!Number.isFinite(gap)) {
      const values = `is ${actual[i]}, expected ${expected[i]}`;
      throw new ContractError(`${what}: value ${i} ${values} (poison or overflow)`);
    }
    difference += gap * gap;
    norm += expected[i]! * expected[i]!;
    if (gap > worstGap) {
      worstGap = gap;
      worst = i;
    }
  }
  const error = Math.sqrt(difference / (norm || 1));
  expectThat(
    error <= tolerance,
    `${what}: relative error ${error.toExponential(2)} over ${tolerance}; worst at ${worst}: ` +
      `${actual[worst]}, expected ${expected[worst]}`,
  );
}

/** Expects `action` to throw, or reject with, a DeviceError of this code. */
export async function expectDeviceError(
  what: string,
  code: string,
  action: () => unknown,
): Promise<void> {
  let thrown: unknown;
  try {
    await action();
  } catch (error) {
    thrown = error;
  }
  const found = (thrown as { code?: unknown } | undefined)?.code;
  expectThat(found === code, `${what}: expected DeviceError "${code}", got ${String(thrown)}`);
}
