import type { Profile } from '@bridgekeeper/bridge';
import type { LoadingStrategy } from '@bridgekeeper/engine/loader';
import { decimalSize, type MeasuredRun, rate } from '@bridgekeeper/report';
import type { LoadOutcome } from './run-load.ts';

const giga = (value: number) => value / 1e9;

/** What the law lets cross in a second, however large the crossings: all its contexts together. */
function lawRate(profile: Profile, { memory, contexts }: LoadingStrategy): number {
  const { aggregateRate } = profile.contexts;
  const factor = aggregateRate.findLast((point) => point.contexts <= Math.max(1, contexts))!.factor;
  return profile.crossings.h2d[memory].bandwidth.at(-1)!.bytesPerSecond * factor;
}

/** A load as a run of the suite `load`. */
export function loadRun(
  outcome: LoadOutcome,
  own: MeasuredRun['parameters'],
  law: Profile | null,
  hostPeakBytes: number,
): MeasuredRun {
  const { report, totalSeconds, pinnedBytesPerSecond, checked } = outcome;
  const { strategy, rates, bytes, streamSeconds, times } = report;
  const { totals } = outcome.crossed;
  const streamRate = bytes / streamSeconds;
  const measured = rates === null ? [] : [rates.read, rates.cross, rates.place];
  const limit = Math.min(...measured);
  const allowed = law === null ? null : lawRate(law, strategy);
  return {
    parameters: {
      path: 'bridgekeeper',
      law: law?.name ?? 'off',
      ...strategy,
      verified: report.verifiedBytes > 0,
      ...own,
    },
    metrics: {
      bytes,
      deviceBytes: outcome.deviceBytes,
      openSeconds: outcome.openSeconds,
      readySeconds: report.readySeconds,
      streamSeconds,
      verifySeconds: report.verifySeconds,
      totalSeconds,
      streamGBps: giga(streamRate),
      totalGBps: giga(bytes / totalSeconds),
      readThreadSeconds: times.readNs / 1e9,
      decryptThreadSeconds: times.decryptNs / 1e9,
      crossSeconds: times.crossNs / 1e9,
      crossings: totals.reduce((sum, { crossings }) => sum + crossings, 0),
      crossedBytes: totals.reduce((sum, each) => sum + each.bytes, 0),
      ...(rates === null
        ? {}
        : {
            readGBps: giga(rates.read),
            crossGBps: giga(rates.cross),
            transformGBps: giga(rates.place),
            transformSeconds: bytes / rates.place,
            limitGBps: giga(limit),
            limitFraction: streamRate / limit,
          }),
      pinnedGBps: giga(pinnedBytesPerSecond),
      pinnedFraction: streamRate / pinnedBytesPerSecond,
      ...(allowed === null ? {} : { lawGBps: giga(allowed), lawFraction: streamRate / allowed }),
      stagingBytes: report.stagingPeakBytes,
      hostPeakBytes,
      ...(checked === null
        ? {}
        : { checkedBytes: checked.bytes, differingTensors: checked.differing.length }),
    },
    repeats: 1,
    spread: {},
  };
}

const seconds = (value: number) => `${value.toFixed(3)} s`;

/** What people read after a load. */
export function describeLoad(outcome: LoadOutcome, law: Profile | null, hostPeakBytes: number) {
  const { report, totalSeconds, checked } = outcome;
  const { strategy, rates, bytes, streamSeconds, times } = report;
  const { memory } = strategy;
  const lanes =
    strategy.contexts === 0 ? 'over the launching context' : `over ${strategy.contexts} contexts`;
  const crossers = strategy.crossedBy === 'readers' ? 'by the threads that read' : lanes;
  const source = strategy.direct ? 'past the page cache' : 'through the page cache';
  const readers = strategy.readers === 0 ? 'this thread' : `${strategy.readers} threads`;
  const mib = strategy.chunkBytes / 1024 ** 2;
  const what = outcome.architecture ?? 'no architecture known here: tensors as they are stored';
  const lines = [
    `${what}, ${outcome.tensors} tensors in ${outcome.files} files, ${decimalSize(bytes)} read`,
    `by ${readers} ${source}, chunks of ${mib} MiB cross from ${memory} memory ${crossers}`,
    '',
    row('stage', 'bytes', 'time', 'alone'),
    row('open', '', seconds(outcome.openSeconds), ''),
    row('make ready', '', seconds(report.readySeconds), ''),
    row(
      'read',
      decimalSize(bytes),
      `${seconds(times.readNs / 1e9)} of threads`,
      orDash(rates?.read),
    ),
    row('decrypt', '', `${seconds(times.decryptNs / 1e9)} of threads`, ''),
    row(
      'cross',
      decimalSize(bytes),
      `${seconds(times.crossNs / 1e9)} under way`,
      orDash(rates?.cross),
    ),
    row(
      report.verifiedBytes > 0 ? 'place, hash' : 'place',
      decimalSize(outcome.deviceBytes),
      rates === null ? '-' : seconds(bytes / rates.place),
      orDash(rates?.place),
    ),
    row('verify', decimalSize(report.verifiedBytes), seconds(report.verifySeconds), ''),
    row('all', decimalSize(bytes), seconds(totalSeconds), rate(bytes / totalSeconds)),
    '',
  ];
  const streamed = bytes / streamSeconds;
  if (rates !== null) {
    const stages = Object.entries(rates) as [string, number][];
    const [name, slowest] = stages.reduce((a, b) => (b[1] < a[1] ? b : a));
    const part = `${((100 * streamed) / slowest).toFixed(0)} %`;
    lines.push(`${rate(streamed)} streamed: ${part} of its slowest stage alone, which is ${name}`);
  }
  if (law !== null) {
    const allowed = lawRate(law, strategy);
    const part = `${((100 * streamed) / allowed).toFixed(0)} %`;
    lines.push(`${part} of the ${rate(allowed)} that the law ${law.name} allows`);
  }
  lines.push(`${rate(outcome.pinnedBytesPerSecond)}: one copy after the other from pinned memory`);
  const staging = `${(report.stagingPeakBytes / 1024 ** 2).toFixed(0)} MiB staging`;
  lines.push(`peak: ${staging}, host ${decimalSize(hostPeakBytes)} resident`);
  for (const { strategy: tried, bytesPerSecond } of report.race) {
    const { crossedBy, contexts, chunkBytes, memory, direct } = tried;
    const chunk = `${chunkBytes / 1024 ** 2} MiB ${memory}`;
    const lanes = crossedBy === 'readers' ? 'the threads that read' : `${contexts} contexts`;
    const how = `${lanes}, ${chunk}${direct ? ', direct' : ''}`;
    lines.push(`tried: ${how}: ${rate(bytesPerSecond)}`);
  }
  if (outcome.sealRoot !== null) lines.push(`verified: root ${outcome.sealRoot}`);
  if (checked !== null) {
    const { differing, parts, leftOut } = checked;
    const result = differing.length === 0 ? 'all as in the files' : `DIFFERENT: ${differing[0]}`;
    lines.push(`checked ${parts} tensors on the device: ${result} (${leftOut} not compared)`);
  }
  return lines.join('\n');
}

const orDash = (value: number | undefined) => (value === undefined ? '-' : rate(value));

function row(stage: string, bytes: string, time: string, alone: string): string {
  return `${stage.padEnd(12)}${bytes.padStart(12)}${time.padStart(22)}${alone.padStart(12)}`;
}
