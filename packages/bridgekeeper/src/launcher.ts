import { fileURLToPath } from 'node:url';

/** What users start: it takes the packed program where that is not older than what is compiled. */
export const LAUNCHER = fileURLToPath(new URL('../bin/bridgekeeper.mjs', import.meta.url));
