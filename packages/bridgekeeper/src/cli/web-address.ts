import { kindOf } from '@bridgekeeper/server/settings';

/** Where something answers over HTTP. */
export const webAddress = kindOf('url', 'an address such as http://host:port', (value) =>
  /^https?:\/\//.test(value) && URL.canParse(value) ? value : undefined,
);
