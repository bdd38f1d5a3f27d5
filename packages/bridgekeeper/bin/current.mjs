import { existsSync, statSync } from 'node:fs';

/** The commands that load little, as one file: scripts/program.mjs makes it. */
export const program = new URL('../dist/program.mjs', import.meta.url);

/** Whether it is there and made from what is compiled now; what is installed has nothing newer. */
export function isProgramCurrent() {
  if (!existsSync(program)) return false;
  const madeAt = statSync(program).mtimeMs;
  return ['attest', 'bridgekeeper', 'report', 'server'].every((name) => {
    const built = new URL(`../../${name}/dist/.tsbuildinfo`, import.meta.url);
    return !existsSync(built) || statSync(built).mtimeMs <= madeAt;
  });
}
