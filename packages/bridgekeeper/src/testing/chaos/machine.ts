import { availableParallelism, cpus } from 'node:os';
import { readVersion } from '../../version.ts';

/** Where and how something was measured, without names of the machine's own. */
export function machineOf(command: string) {
  const { version, commit } = readVersion();
  return {
    command,
    machine: {
      processor: cpus()[0]?.model ?? 'unknown',
      cores: availableParallelism(),
      node: process.versions.node,
      note: 'shared with other work',
    },
    build: { version, commit },
  };
}
