import { environmentOf } from './flags.ts';

const PREFIX = 'BRIDGEKEEPER_';

/** Those that are read, but are no settings. */
const OTHERS = [
  'BRIDGEKEEPER_VERIFY_API_KEY',
  'BRIDGEKEEPER_EVERY_LANE_ARRIVES',
  'BRIDGEKEEPER_ONE_GPU_FOR_ALL_RANKS',
  'BRIDGEKEEPER_REACHED',
  'BRIDGEKEEPER_MUTANT',
];

/** What Kubernetes sets in every pod for a service that is called `bridgekeeper`. */
const OF_KUBERNETES = /^BRIDGEKEEPER_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$/;
const ADDRESS_OF_KUBERNETES = /^(tcp|udp|sctp):\/\//;

/** The value of a setting's variable, unless Kubernetes put a service's address there. */
export function variableOf(
  name: string,
  environment: Readonly<Record<string, string | undefined>>,
): string | undefined {
  const value = environment[name];
  const isAddress = name === `${PREFIX}PORT` && ADDRESS_OF_KUBERNETES.test(value ?? '');
  return isAddress ? undefined : value;
}

/** A variable with our prefix that nothing reads, and the nearest that something reads. */
export function misspeltVariable(
  settings: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): { readonly name: string; readonly nearest: string } | undefined {
  const known = [...settings.map(environmentOf), ...OTHERS];
  const name = Object.keys(environment).find(
    (each) => each.startsWith(PREFIX) && !known.includes(each) && !OF_KUBERNETES.test(each),
  );
  if (name === undefined) return undefined;
  const distances = known.map((each) => editDistance(name, each));
  return { name, nearest: known[distances.indexOf(Math.min(...distances))]! };
}

/** How many letters must be added, dropped or replaced. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, at) => at);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replaced = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replaced, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return row[b.length]!;
}
