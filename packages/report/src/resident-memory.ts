import { readFileSync } from 'node:fs';

/** What a process has in memory now, in bytes. Linux only: elsewhere 0. */
export const residentBytes = (pid: number): number => statusBytes(String(pid), 'VmRSS');

/** The most that this process had in memory so far, in bytes. Linux only: elsewhere 0. */
export const peakResidentBytes = (): number => statusBytes('self', 'VmHWM');

function statusBytes(process: string, field: string): number {
  try {
    const status = readFileSync(`/proc/${process}/status`, 'utf8');
    return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
