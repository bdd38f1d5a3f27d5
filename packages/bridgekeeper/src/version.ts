import { existsSync, readFileSync } from 'node:fs';
import type { VersionInfo } from '@bridgekeeper/server';

const PACKAGE = new URL('../package.json', import.meta.url);
const BUNDLE = new URL('../../../bundle.json', import.meta.url);

/** Reads the package's version, and the bundle's manifest where there is one. */
export function readVersion(): VersionInfo {
  const { version } = JSON.parse(readFileSync(PACKAGE, 'utf8')) as { version: string };
  const bundle = existsSync(BUNDLE)
    ? (JSON.parse(readFileSync(BUNDLE, 'utf8')) as Partial<VersionInfo>)
    : {};
  const { commit = null, digest = null } = bundle;
  return { version, node: process.versions.node, commit, digest };
}
