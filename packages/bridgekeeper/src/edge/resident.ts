import { readFileSync } from 'node:fs';

/** The most memory that this process had resident so far. Linux only: elsewhere 0. */
export function peakResidentBytes(): number {
  try {
    const status = readFileSync('/proc/self/status', 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
