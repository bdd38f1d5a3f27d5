import { type Profile, parseProfile } from '@bridgekeeper/bridge';

/**
 * Reads a profile from the text of a file: one by itself, or the one in a probe's result. Throws
 * ProfileError, or SyntaxError where the text is no JSON.
 */
export function parseProfileFile(text: string): Profile {
  const json: unknown = JSON.parse(text);
  const isResult = typeof json === 'object' && json !== null && 'suite' in json;
  return parseProfile(isResult && 'profile' in json ? json.profile : json);
}
