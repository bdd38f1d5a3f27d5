import { flag, text } from '@bridgekeeper/server/settings';

/** Where control keeps its database and the first keys. */
export const CONTROL_FOLDER = flag(
  text('folder'),
  'control',
  'where the database and the first keys are',
);
