/** Which package may use which, as the arrows in ARCHITECTURE.md. A new package is added here. */
export const layers: Readonly<Record<string, readonly string[]>> = {
  bridge: [],
  native: [],
  device: ['bridge', 'native'],
  engine: ['bridge', 'device'],
  attest: ['native'], // Its Node part alone: the rest runs in browsers.
  fabric: ['attest'],
  control: ['attest', 'fabric', 'bridge'],
  bridgekeeper: ['bridge', 'device', 'engine', 'attest', 'fabric', 'control'],
  console: [],
};

/** Dependencies that a package lists without importing them, as another dependency's peer. */
export const peers: readonly { readonly package: string; readonly name: string }[] = [
  { package: 'bridgekeeper', name: 'zod' }, // of @hono/zod-openapi
];

/** Names that only adapters may use, each with what everything else uses in its place. */
export const banned: readonly { readonly name: string; readonly instead: string }[] = [
  { name: 'new Date()', instead: 'take a Clock (packages/bridge/src/clock.ts)' },
  { name: 'Date.now', instead: 'take a Clock (packages/bridge/src/clock.ts)' },
  { name: 'performance.now', instead: 'take a Clock (packages/bridge/src/clock.ts)' },
  { name: 'process.hrtime', instead: 'take a Clock (packages/bridge/src/clock.ts)' },
  { name: 'setTimeout', instead: 'await Clock.sleepUntilNs' },
  { name: 'setInterval', instead: 'loop over Clock.sleepUntilNs' },
  { name: 'AbortSignal.timeout', instead: 'await Clock.sleepUntilNs and abort' },
  { name: 'Math.random', instead: 'take a seed (packages/device/src/random.ts)' },
  { name: 'console', instead: 'return the text, or take a logger or a stream' },
];

/** Where banned names are at home: a path or a folder, the names, and why. */
export const adapters: readonly {
  readonly path: string;
  readonly names: readonly string[];
  readonly reason: string;
}[] = [
  {
    path: 'packages/device/src/clock/system-clock.ts',
    names: ['process.hrtime', 'setTimeout'],
    reason: 'the real clock',
  },
  {
    path: 'packages/bridgekeeper/src/edge/time.ts',
    names: ['new Date()', 'Date.now', 'performance.now', 'setTimeout', 'setInterval'],
    reason: 'the host clock of the command line and the server',
  },
];
