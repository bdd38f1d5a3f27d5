import type { FabricProbe } from './probe.ts';

/** A probe for people: one line for each direction, then what it means. */
export function probeLines({
  gpus,
  links,
  pairs,
  ringBytesPerSecond,
  findings,
}: FabricProbe): string[] {
  const rate = (value: number | null) =>
    (value === null ? '-' : (value / 1e9).toFixed(1)).padStart(9);
  const time = (ns: number | null) =>
    (ns === null
      ? '-'
      : ns < 10_000
        ? `${Math.round(ns)} ns`
        : `${(ns / 1e3).toFixed(1)} us`
    ).padStart(9);
  const title = ['link', 'copy GB/s', 'read', 'write', 'one copy', 'in a row', 'a load'];
  return [
    ...gpus.map(({ name, bdf }, i) => `GPU ${i}: ${name}${bdf === null ? '' : ` at ${bdf}`}`),
    title.map((word) => word.padStart(9)).join(' '),
    ...links.map((link) =>
      [
        `${link.from} -> ${link.to}`.padStart(9),
        rate(link.bytesPerSecond),
        rate(link.readBytesPerSecond),
        rate(link.writeBytesPerSecond),
        time(link.awaitedTollNs),
        time(link.queuedTollNs),
        time(link.loadNs),
      ].join(' '),
    ),
    ...pairs.map((pair) => {
      const ways = [
        ['copy', pair.bothWaysBytesPerSecond],
        ['read', pair.bothWaysReadBytesPerSecond],
        ['write', pair.bothWaysWriteBytesPerSecond],
      ] as const;
      const said = ways.map(([way, value]) => `${way} ${rate(value).trim()}`).join(', ');
      return `both ways at once between ${pair.gpus[0]} and ${pair.gpus[1]}, GB/s: ${said}`;
    }),
    `each to the next, all at once: ${(ringBytesPerSecond / 1e9).toFixed(1)} GB/s each`,
    ...(findings.length === 0 ? ['they reach each other as they should'] : findings),
  ];
}
