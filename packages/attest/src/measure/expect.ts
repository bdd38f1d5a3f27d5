import type { Policy } from '../policy/policy.ts';

/** What a guest's evidence must show, computed from what it is started with. In hexadecimal. */
export interface ExpectedGuest {
  /** The launch digest or MRTD; several where nobody knows in which order pages are added. */
  readonly launch: readonly string[];
  /** Registers by name, as claims have them: `rtmr1`, `measurement`. */
  readonly registers: Readonly<Record<string, string>>;
  /** SHA-256 of dstack's app-compose.json; null: not an app of dstack's, or any. */
  readonly appCompose: string | null;
  /** The digest of Bridgekeeper's offline bundle in the image; null: whichever the image has. */
  readonly bundle: string | null;
}

/**
 * The policy that expects this guest. What the software says of itself is believed for the bundle
 * alone: a guest whose measurements are the expected ones runs code that says what is so.
 */
export function expectGuest(policy: Policy, guest: ExpectedGuest): Policy {
  const { launch, registers, appCompose, bundle } = guest;
  const includes = namedValues(registers);
  const system = systemOf(guest);
  const cpu = {
    ...policy.require.cpu,
    'cpu.launch': { oneOf: [...launch] },
    ...(includes.length > 0 && { 'cpu.measurements': { includes } }),
    ...(system !== null && { 'cpu.system': { includes: namedValues(system) } }),
  };
  const app = appCompose !== null && {
    app: { ...policy.require.app, 'app.compose': { oneOf: [appCompose] } },
  };
  const server = bundle !== null && {
    server: {
      ...policy.require.server,
      'server.software': { oneOf: [bundle], believe: ['guest-observed' as const] },
    },
  };
  return {
    ...policy,
    name: `${policy.name}, measured`,
    minimum: policy.minimum.map((set) => ({ ...set, cpu: 1, ...(app && { app: 1 }) })),
    atMost: { ...policy.atMost, cpu: 1, ...(app && { app: 1 }) },
    require: { ...policy.require, cpu, ...app, ...server },
  };
}

/**
 * All that firmware and operating system are measured into, which an app depends on (`cpu.system`);
 * null: a part of it was not computed.
 */
function systemOf({ launch, registers }: ExpectedGuest): ExpectedGuest['registers'] | null {
  const { measurement, rtmr0, rtmr1, rtmr2 } = registers;
  if (measurement !== undefined) return { measurement };
  const [mrtd, ...others] = launch;
  if (mrtd === undefined || others.length > 0) return null;
  if (rtmr0 === undefined || rtmr1 === undefined || rtmr2 === undefined) return null;
  return { mrtd, rtmr0, rtmr1, rtmr2 };
}

const namedValues = (values: ExpectedGuest['registers']) =>
  Object.entries(values).map(([name, value]) => `${name}=${value}`);
