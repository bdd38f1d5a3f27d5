/** The numbers of a version in order: 0.26.1rc1.dev255 is 0.26.1. */
export type Version = readonly number[];

/** Reads `0.29.0`, `v1.2.0rc3` or `580.95.05`; null for anything else. */
export function parseVersion(text: string): Version | null {
  const match = /^v?(\d+(?:\.\d+)*)/.exec(text.trim());
  return match === null ? null : match[1]!.split('.').map(Number);
}

export function compareVersions(a: Version, b: Version): number {
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** The versions a source names: from `from` on, and before `before`. */
export interface VersionRange {
  readonly from: string;
  readonly before?: string;
}

export function isInRange(version: Version, { from, before }: VersionRange): boolean {
  if (compareVersions(version, parseVersion(from)!) < 0) return false;
  return before === undefined || compareVersions(version, parseVersion(before)!) < 0;
}

/** `0.25.0 and later`, or `0.27.0 up to, not including, 0.30.0`. */
export function rangeText({ from, before }: VersionRange): string {
  return before === undefined ? `${from} and later` : `${from} up to, not including, ${before}`;
}
