// The commands of the program that load little, as one file: opening some two hundred modules costs
// far more than verifying does. `bin/bridgekeeper.mjs` takes it where it is not older than a build.

import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isProgramCurrent } from '../packages/bridgekeeper/bin/current.mjs';

const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'packages/bridgekeeper/dist');

/** What stays in modules of its own: the machine's, the server's, and the other commands. */
const outside =
  /^node:|^@bridgekeeper\/(?:server|native|bridge|device|engine|bench|doctor|probe|fabric)$/;
const inside = /\/(?:measure|verify|verify-bundle|version)\.js$/;
const staysOutside = (id, importer) =>
  outside.test(id) || (importer?.endsWith('/cli/commands.js') && !inside.test(id));

/** Writes program.mjs. Needs a build. */
export async function buildProgram(outDir = dist) {
  const { build } = await import('vite');
  await build({
    configFile: false,
    logLevel: 'silent',
    root,
    // As Node resolves packages, not as browsers do.
    ssr: { noExternal: true, target: 'node' },
    build: {
      ssr: join(dist, 'main.js'),
      target: 'node20',
      outDir,
      emptyOutDir: false,
      minify: false,
      rolldownOptions: {
        external: staysOutside,
        output: { entryFileNames: 'program.mjs', codeSplitting: false },
      },
    },
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url) && !isProgramCurrent()) {
  await buildProgram();
}
