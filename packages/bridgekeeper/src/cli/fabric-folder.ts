import { flag, text } from '@bridgekeeper/server/settings';

/** Where a host's agent keeps its state and its log. */
export const FABRIC_FOLDER = flag(
  text('folder'),
  '/var/lib/bridgekeeper/fabric',
  'where the host’s agent keeps its state and its log',
);
