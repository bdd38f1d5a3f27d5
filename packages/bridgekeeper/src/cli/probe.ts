import type { Profile } from '@bridgekeeper/bridge';
import type { DeviceKind } from '@bridgekeeper/device';
import type { ProbeDocument, ProbeOptions } from '@bridgekeeper/probe';
import {
  chooseLaw,
  flag,
  integer,
  onOff,
  optionalArgument,
  SETTINGS,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { CliIo } from '../io.ts';
import { progressBar } from '../progress-bar.ts';
import { readVersion } from '../version.ts';
import type { CliCommand } from './command.ts';
import { stopSignal } from './stop-signal.ts';

const OWN_FLAGS = {
  other: optionalArgument(text('other'), 'with --compare: the second file'),
  device: SETTINGS.device,
  law: { ...SETTINGS.law, help: 'impose this law: a test of the probe' },
  tensorParallelSize: flag(
    integer(1, 8),
    undefined,
    'measure sums over so many GPUs; by default over all that are visible',
  ),
  out: flag(text('file'), undefined, 'write the result here, for --law and --compare'),
  html: flag(text('file'), undefined, 'write a report with plots here'),
  quick: flag(onOff(), false, 'shorter: fewer sizes, repeats and contexts'),
  force: flag(onOff(), false, 'measure although another process uses the GPU'),
  save: flag(onOff(), true, 'leave a profile for this machine behind'),
  compare: flag(text('file'), undefined, 'compare this result with another, measuring nothing'),
  json: flag(onOff(), false, 'as one JSON document'),
};
const FLAGS = { ...SETTINGS, ...OWN_FLAGS };

type Flags = Values<typeof FLAGS>;

export const PROBE: CliCommand<typeof FLAGS> = {
  name: 'probe',
  summary: 'measure the bridge of this machine and write the law that it follows',
  flags: FLAGS,
  offered: Object.keys(OWN_FLAGS),
  async run({ values }, io) {
    const { compare, other } = values;
    if (compare !== undefined && other !== undefined) return runCompare(compare, other, values, io);
    if (compare === undefined && other === undefined) return runProbe(values, io);
    throw new UsageError('bad-combination', 'usage: probe, or probe --compare a.json b.json');
  },
};

/** Resolves to the exit code. Throws UsageError and ProbeError. */
async function runProbe(flags: Flags, io: CliIo): Promise<0 | 1> {
  // Loaded when they are needed, like every command that opens a device's libraries.
  const { cudaAvailability, DeviceError } = await import('@bridgekeeper/device');
  const { probe, ProbeError } = await import('@bridgekeeper/probe');
  const { available, detail } = cudaAvailability();
  if (flags.device === 'auto' && !available) {
    const instead = 'a modelled one is measured with --device model --law emulate:b300-cc';
    throw new ProbeError('no-gpu', `there is no GPU to measure: ${detail}; ${instead}`);
  }
  const device: DeviceKind = flags.device === 'auto' ? 'cuda' : flags.device;
  const law = chooseLaw(flags.law, device).value;
  try {
    const document = await probe(optionsOf(flags, device, law, io));
    io.redraw?.('');
    return await deliver(document, flags, io);
  } catch (error) {
    if (!(error instanceof DeviceError)) throw error;
    io.err(`bridgekeeper: ${error.message}`);
    return 1;
  }
}

function optionsOf(flags: Flags, device: DeviceKind, law: Profile | null, io: CliIo): ProbeOptions {
  const { tensorParallelSize: gpus } = flags;
  const words = [
    'bridgekeeper probe',
    `--device ${device}`,
    ...(law === null ? [] : [`--law ${flags.law.startsWith('emulate:') ? flags.law : law.name}`]),
    ...(gpus === undefined ? [] : [`--tensor-parallel-size ${gpus}`]),
    ...(flags.quick ? ['--quick'] : []),
    ...(flags.force ? ['--force'] : []),
  ];
  return {
    device,
    law,
    quick: flags.quick,
    gpus,
    force: flags.force,
    context: {
      version: readVersion().version,
      command: words.join(' '),
      startedAt: new Date(HOST_CLOCK.unixSeconds() * 1000),
    },
    nowNs: io.nowNs,
    stop: stopSignal(io),
    onStep: (title, index, total) => showStep(io, title, index, total),
  };
}

function showStep(io: CliIo, title: string, index: number, total: number): void {
  if (io.redraw === undefined) io.err(`probe ${index + 1}/${total}: ${title}`);
  else io.redraw(`${progressBar(index, total)} ${index + 1}/${total} ${title}`);
}

/** Writes what was asked for; resolves to the exit code. */
async function deliver(document: ProbeDocument, flags: Flags, io: CliIo): Promise<0 | 1> {
  const { referenceFor, reportLines, reportPage, savingOf } = await import('@bridgekeeper/probe');
  const reference = referenceFor(document.facts);
  const text = JSON.stringify(document, null, 1);
  if (flags.json) io.out(text);
  else io.out(reportLines(document, reference).join('\n'));
  // A minute's measurement is not thrown away for a file that cannot be written.
  const write = (path: string, content: string): boolean => {
    try {
      io.writeFile(path, content);
      return true;
    } catch (error) {
      io.err(`bridgekeeper: ${path} could not be written: ${error}`);
      return false;
    }
  };
  const { out, html } = flags;
  const hasOut = out === undefined || write(out, `${text}\n`);
  const hasHtml = html === undefined || write(html, reportPage(document, reference));
  const saving = savingOf(document, io.environment);
  let hasSaved = true;
  if (saving.saves && flags.save) {
    hasSaved = write(saving.path, saving.text);
    if (hasSaved) io.err(`bridgekeeper: from now on auto plans by ${saving.path}`);
  } else if (!saving.saves && document.facts.device === 'cuda') {
    io.err(`bridgekeeper: no profile was stored for this machine: ${saving.reason}`);
  }
  return document.isComplete && hasOut && hasHtml && hasSaved ? 0 : 1;
}

/** Resolves to the exit code. Throws UsageError for files that cannot be compared. */
async function runCompare(first: string, second: string, flags: Flags, io: CliIo): Promise<0> {
  const { compare, CompareError, comparisonLines, comparisonPage, parseCompared } = await import(
    '@bridgekeeper/probe'
  );
  const read = (path: string) => {
    try {
      return parseCompared(io.readFile(path), path);
    } catch (error) {
      const reason = error instanceof CompareError ? error.message : `${path}: ${error}`;
      throw new UsageError('bad-file', `--compare ${reason}`, { cause: error });
    }
  };
  const comparison = compare(read(first), read(second));
  if (flags.html !== undefined) io.writeFile(flags.html, comparisonPage(comparison));
  if (flags.json) {
    const { ratios, parameters, warnings, sides } = comparison;
    io.out(JSON.stringify({ names: sides.map(({ name }) => name), ratios, parameters, warnings }));
  } else {
    io.out(comparisonLines(comparison).join('\n'));
  }
  return 0;
}
