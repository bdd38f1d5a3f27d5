/** Numbers with units as people read them: three significant digits. */

const scale = (
  value: number,
  steps: readonly (readonly [least: number, unit: string])[],
): string => {
  const [divisor, unit] = steps.find(([least]) => Math.abs(value) >= least) ?? steps.at(-1)!;
  return `${threeDigits(value / divisor)} ${unit}`;
};

export function threeDigits(value: number): string {
  if (value === 0) return '0';
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

export const duration = (ns: number): string =>
  scale(ns, [
    [1e9, 's'],
    [1e6, 'ms'],
    [1e3, 'us'],
    [1, 'ns'],
  ]);

export const size = (bytes: number): string =>
  scale(bytes, [
    [2 ** 30, 'GiB'],
    [2 ** 20, 'MiB'],
    [2 ** 10, 'KiB'],
    [1, 'B'],
  ]);

/** By thousands, as files and links are measured. */
export const decimalSize = (bytes: number): string =>
  scale(bytes, [
    [1e12, 'TB'],
    [1e9, 'GB'],
    [1e6, 'MB'],
    [1e3, 'kB'],
    [1, 'B'],
  ]);

export const rate = (bytesPerSecond: number): string =>
  scale(bytesPerSecond, [
    [1e12, 'TB/s'],
    [1e9, 'GB/s'],
    [1e6, 'MB/s'],
    [1, 'B/s'],
  ]);
