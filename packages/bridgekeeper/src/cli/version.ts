import { flag, onOff } from '@bridgekeeper/server/settings';
import { readVersion } from '../version.ts';
import type { CliCommand } from './command.ts';

const FLAGS = { json: flag(onOff(), false, 'as one JSON document') };

export const VERSION: CliCommand<typeof FLAGS> = {
  name: 'version',
  summary: 'show the version',
  flags: FLAGS,
  async run({ values }, io) {
    io.out(values.json ? JSON.stringify(readVersion()) : versionLine());
    return 0;
  },
};

export function versionLine(): string {
  const { version, node } = readVersion();
  return `bridgekeeper ${version}, Node ${node}`;
}
