/**
 * Formats as regular expressions. RFC 3339, 5321, 1123, 3986, 4122 and 6901, with what RFCs admit
 * and nobody writes left out where it is costly: leap seconds, quoted local parts, IPv6 literals in
 * URIs. Every text that is admitted has the format.
 */

const LEAP_YEAR = '(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)';
const DATE = [
  '\\d{4}-(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])',
  '\\d{4}-(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)',
  '\\d{4}-02-(?:0[1-9]|1\\d|2[0-8])',
  `${LEAP_YEAR}-02-29`,
].join('|');
const TIME =
  '(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?(?:Z|[-+](?:[01]\\d|2[0-3]):[0-5]\\d)';

const DURATION_DATE = '(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)';
const DURATION_TIME = 'T(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S)';
const DURATION = `P(?:${DURATION_DATE}(?:${DURATION_TIME})?|${DURATION_TIME}|\\d+W)`;

const ATOM = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
const DOMAIN_LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?';
const EMAIL = `${ATOM}(?:\\.${ATOM})*@${DOMAIN_LABEL}(?:\\.${DOMAIN_LABEL})+`;
// 253 characters in all, 63 in a label: either few long labels, or more that are shorter.
const HOST_LABEL = (length: number) => `[A-Za-z0-9](?:[A-Za-z0-9-]{0,${length - 2}}[A-Za-z0-9])?`;
const HOSTNAME = [
  `${HOST_LABEL(63)}(?:\\.${HOST_LABEL(63)}){0,2}`,
  `${HOST_LABEL(31)}(?:\\.${HOST_LABEL(31)}){0,6}`,
].join('|');

const OCTET = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)';
const IPV4 = `${OCTET}(?:\\.${OCTET}){3}`;
const GROUP = '[0-9A-Fa-f]{1,4}';
const LAST = `(?:${GROUP}:${GROUP}|${IPV4})`;
const IPV6 = [
  `(?:${GROUP}:){6}${LAST}`,
  `::(?:${GROUP}:){5}${LAST}`,
  `(?:${GROUP})?::(?:${GROUP}:){4}${LAST}`,
  `(?:(?:${GROUP}:){0,1}${GROUP})?::(?:${GROUP}:){3}${LAST}`,
  `(?:(?:${GROUP}:){0,2}${GROUP})?::(?:${GROUP}:){2}${LAST}`,
  `(?:(?:${GROUP}:){0,3}${GROUP})?::${GROUP}:${LAST}`,
  `(?:(?:${GROUP}:){0,4}${GROUP})?::${LAST}`,
  `(?:(?:${GROUP}:){0,5}${GROUP})?::${GROUP}`,
  `(?:(?:${GROUP}:){0,6}${GROUP})?::`,
].join('|');

const ESCAPED = '%[0-9A-Fa-f]{2}';
/** URIs of ASCII alone, or IRIs with other letters too. */
function uriOf(letters: string) {
  const name = `(?:[A-Za-z0-9\\-._~!$&'()*+,;=${letters}]|${ESCAPED})`;
  const pchar = `(?:[A-Za-z0-9\\-._~!$&'()*+,;=:@${letters}]|${ESCAPED})`;
  const noColon = `(?:[A-Za-z0-9\\-._~!$&'()*+,;=@${letters}]|${ESCAPED})`;
  const user = `(?:(?:[A-Za-z0-9\\-._~!$&'()*+,;=:${letters}]|${ESCAPED})*@)?`;
  const rest = `(?:/${pchar}*)*`;
  const authority = `//${user}${name}*(?::\\d*)?${rest}`;
  const absolute = `/(?:${pchar}+${rest})?`;
  const query = `(?:\\?(?:[/?]|${pchar})*)?(?:#(?:[/?]|${pchar})*)?`;
  const uri = `[A-Za-z][A-Za-z0-9+\\-.]*:(?:${authority}|${absolute}|${pchar}+${rest})${query}`;
  const relative = `(?:${authority}|${absolute}|${noColon}+${rest})?${query}`;
  return { uri, reference: `(?:${uri}|${relative})` };
}
const ASCII_URI = uriOf('');
const IRI = uriOf('\\u00a0-\\ud7ff\\uf900-\\ufdcf\\ufdf0-\\uffef');

const HEX = (count: number) => `[0-9A-Fa-f]{${count}}`;
const POINTER = '(?:/(?:[^~/]|~[01])*)*';

const FORMATS: ReadonlyMap<string, string> = new Map([
  ['date', DATE],
  ['time', TIME],
  ['date-time', `(?:${DATE})T${TIME}`],
  ['duration', DURATION],
  ['email', EMAIL],
  ['hostname', HOSTNAME],
  ['ipv4', IPV4],
  ['ipv6', IPV6],
  ['uri', ASCII_URI.uri],
  ['uri-reference', ASCII_URI.reference],
  ['iri', IRI.uri],
  ['iri-reference', IRI.reference],
  ['uuid', `${HEX(8)}-${HEX(4)}-${HEX(4)}-${HEX(4)}-${HEX(12)}`],
  ['json-pointer', POINTER],
  ['relative-json-pointer', `(?:0|[1-9]\\d*)(?:#|${POINTER})`],
]);

/** JSON Schema defines them, and what has them is no regular language, or too large a one. */
const UNSUPPORTED_FORMATS = new Set(['regex', 'uri-template', 'idn-email', 'idn-hostname']);

/**
 * The regular expression of the texts that have a format; 'unsupported' where it is JSON Schema's
 * and has none, undefined where JSON Schema does not define it: then it says nothing.
 */
export function formatPattern(name: string): string | 'unsupported' | undefined {
  if (UNSUPPORTED_FORMATS.has(name)) return 'unsupported';
  const pattern = FORMATS.get(name);
  return pattern === undefined ? undefined : `^(?:${pattern})$`;
}
