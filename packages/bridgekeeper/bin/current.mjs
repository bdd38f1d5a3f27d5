import { existsSync, readdirSync, statSync } from 'node:fs';

/** The commands that load little, as one file: scripts/program.mjs makes it. */
export const program = new URL('../dist/program.mjs', import.meta.url);

/** All commands, in fewer files than were compiled, by the same script. */
export const packed = new URL('../dist/packed/main.mjs', import.meta.url);

/** Whether it is there and made from what is compiled now; what is installed has nothing newer. */
export function isCurrent(made) {
  if (!existsSync(made)) return false;
  const madeAt = statSync(made).mtimeMs;
  const packages = new URL('../../', import.meta.url);
  return readdirSync(packages).every((name) => {
    const built = new URL(`${name}/dist/.tsbuildinfo`, packages);
    return !existsSync(built) || statSync(built).mtimeMs <= madeAt;
  });
}
