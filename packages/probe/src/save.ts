import { measuredProfilePath } from '@bridgekeeper/server';
import type { ProbeDocument } from './document.ts';

/** Where this machine's own profile belongs, or why there is nothing to put there. */
export type Saving =
  | { readonly saves: true; readonly path: string; readonly text: string }
  | { readonly saves: false; readonly reason: string };

/** What `auto` should read from now on: never a law that was imposed, never half a measurement. */
export function savingOf(
  { profile, facts, isComplete }: ProbeDocument,
  variables: Readonly<Record<string, string | undefined>>,
): Saving {
  const not = (reason: string): Saving => ({ saves: false, reason });
  if (facts.law !== null) return not('an imposed law was measured, not this machine');
  if (facts.gpuUuid === null) return not('there is no GPU that it would be the profile of');
  if (!isComplete || profile === null) return not('not everything was measured');
  if ((facts.otherProcesses ?? 0) > 0) return not('another process used the GPU meanwhile');
  const path = measuredProfilePath(facts.gpuUuid, variables);
  return { saves: true, path, text: `${JSON.stringify(profile, null, 1)}\n` };
}
