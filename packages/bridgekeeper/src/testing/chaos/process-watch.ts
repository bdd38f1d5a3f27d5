import { readdirSync, readFileSync } from 'node:fs';

/** What a process holds of its machine. */
export interface Held {
  readonly residentMb: number;
  readonly descriptors: number;
  readonly threads: number;
}

/** Of a process of this machine; null: there is none, or it cannot be looked at. */
export function heldBy(pid: number): Held | null {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const field = (name: string) =>
      Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1]);
    return {
      residentMb: field('VmRSS') / 1024,
      descriptors: readdirSync(`/proc/${pid}/fd`).length,
      threads: field('Threads'),
    };
  } catch {
    return null;
  }
}
