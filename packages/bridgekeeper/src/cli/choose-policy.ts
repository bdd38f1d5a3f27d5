import type { Policy } from '@bridgekeeper/attest';
import { UsageError } from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';

/** The policy of that name, built in or in a file. Throws UsageError for a file that is none. */
export async function choosePolicy(name: string, io: CliIo): Promise<Policy> {
  const { AttestError, BUILT_IN_POLICIES, readPolicy } = await import('@bridgekeeper/attest');
  const builtIn = BUILT_IN_POLICIES.get(name);
  if (builtIn !== undefined) return builtIn;
  try {
    return readPolicy(io.readFile(name), name);
  } catch (error) {
    const isRead = error instanceof AttestError;
    const reason = isRead ? error.message : `${name} is no name of a policy and no file: ${error}`;
    throw new UsageError('bad-file', `--policy: ${reason}`, { cause: error });
  }
}
