import type { Profile } from '@bridgekeeper/bridge';
import type { DeviceKind } from '@bridgekeeper/device';
import type { ProbeDocument, ProbeOptions } from '@bridgekeeper/probe';
import { chooseLaw, resolveSettings, SETTINGS, UsageError } from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { Command } from 'commander';
import type { CliIo } from '../io.ts';
import { progressBar } from '../progress-bar.ts';
import { readVersion } from '../version.ts';
import { stopSignal } from './stop-signal.ts';

interface Flags {
  readonly device?: string;
  readonly law?: string;
  readonly out?: string;
  readonly html?: string;
  readonly quick?: true;
  readonly force?: true;
  readonly json?: true;
  readonly save: boolean;
  readonly compare?: string;
}

/** Adds `probe` to the program; `setCode` takes its exit code. */
export function addProbeCommand(program: Command, io: CliIo, setCode: (code: number) => void) {
  program
    .command('probe')
    .argument('[other]', 'with --compare: the second file')
    .description('measure the bridge of this machine and write the law that it follows')
    .option(`--device <${SETTINGS.device.kind.metavar}>`, SETTINGS.device.help)
    .option(`--law <${SETTINGS.law.kind.metavar}>`, 'impose this law: a test of the probe')
    .option('--out <file>', 'write the result here, for --law and --compare')
    .option('--html <file>', 'write a report with plots here')
    .option('--quick', 'shorter: fewer sizes, repeats and contexts')
    .option('--force', 'measure although another process uses the GPU')
    .option('--no-save', 'leave no profile for this machine behind')
    .option('--compare <file>', 'compare this result with another, measuring nothing')
    .option('--json', 'as one JSON document')
    .action(async (other: string | undefined, flags: Flags) => {
      const { compare: file } = flags;
      if (file !== undefined && other !== undefined) {
        setCode(await runCompare(file, other, flags, io));
      } else if (file === undefined && other === undefined) {
        setCode(await runProbeCommand(flags, io));
      } else {
        throw new UsageError('bad-combination', 'usage: probe, or probe --compare a.json b.json');
      }
    });
}

/** Resolves to the exit code. Throws UsageError. */
async function runProbeCommand(flags: Flags, io: CliIo): Promise<0 | 1> {
  const { settings } = resolveSettings({
    flags: {
      ...(flags.device !== undefined && { device: flags.device }),
      ...(flags.law !== undefined && { law: flags.law }),
    },
    environment: io.environment,
    readFile: io.readFile,
  });
  // Loaded when they are needed, like every command that opens a device's libraries.
  const { cudaAvailability, DeviceError } = await import('@bridgekeeper/device');
  const { probe, ProbeError } = await import('@bridgekeeper/probe');
  const fail = (message: string): 1 => {
    io.err(`bridgekeeper: ${message}`);
    return 1;
  };
  const { available, detail } = cudaAvailability();
  if (settings.device === 'auto' && !available) {
    const instead = 'a modelled one is measured with --device model --law emulate:b300-cc';
    return fail(`there is no GPU to measure: ${detail}; ${instead}`);
  }
  const device: DeviceKind = settings.device === 'auto' ? 'cuda' : settings.device;
  const law = chooseLaw(settings.law, device).value;
  try {
    const document = await probe(optionsOf(flags, device, law, io));
    io.redraw?.('');
    return await deliver(document, flags, io);
  } catch (error) {
    if (error instanceof ProbeError || error instanceof DeviceError) return fail(error.message);
    throw error;
  }
}

function optionsOf(flags: Flags, device: DeviceKind, law: Profile | null, io: CliIo): ProbeOptions {
  const words = [
    'bridgekeeper probe',
    `--device ${device}`,
    ...(law === null ? [] : [`--law ${flags.law?.startsWith('emulate:') ? flags.law : law.name}`]),
    ...(flags.quick ? ['--quick'] : []),
    ...(flags.force ? ['--force'] : []),
  ];
  return {
    device,
    law,
    quick: flags.quick === true,
    force: flags.force === true,
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
