import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { ControlError, ImageProgram, Vmm } from '@bridgekeeper/control';
import {
  flag,
  oneOf,
  repeated,
  secret,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import { LAUNCHER } from '../launcher.ts';
import type { CliCommand } from './command.ts';
import { askAgent } from './fabric-socket.ts';
import { readGivenFile } from './given-file.ts';
import { stopSignal } from './stop-signal.ts';
import { webAddress } from './web-address.ts';

const FLAGS = {
  control: flag(
    repeated(webAddress),
    ['https://127.0.0.1:7401'],
    'where control waits for agents; repeated: where each of several does, of which one leads',
  ),
  token: flag(secret(text('token')), undefined, 'to join with, the first time'),
  host: flag(text('name'), undefined, 'this host’s name; default: that of the machine'),
  folder: flag(text('folder'), 'agent', 'where its key, its state and its guests are'),
  vmm: flag(
    oneOf('process', 'dstack', 'kubernetes'),
    'process',
    'what starts guests: processes of this machine, on GPUs that are pretended; dstack-vmm; or ' +
      'Kubernetes, as pods in confidential VMs',
  ),
  dstack: flag(text('file'), undefined, 'this host of dstack, as JSON: see docs/control.md'),
  kubernetes: flag(text('file'), undefined, 'this node of Kubernetes, as JSON: docs/control.md'),
  fabric: flag(
    text('folder'),
    undefined,
    'where this host’s fabric agent keeps its state: guests get their partitions from it',
  ),
  images: flag(text('file'), undefined, 'what names of images mean on this host, as JSON'),
};

export const AGENT: CliCommand<typeof FLAGS> = {
  name: 'agent',
  summary: 'hold this host to what control wants of it, until interrupted',
  flags: FLAGS,
  notes: 'Stopping it is harmless: guests stay, and the next agent goes on.',
  run: ({ values }, io) => runAgent(values, io),
};

/** How often its certificate is looked at: a third of a year is left once it is due. */
const RENEW_CHECK_MS = 3600 * 1000;

async function runAgent(values: Values<typeof FLAGS>, io: CliIo): Promise<0> {
  const control = await import('@bridgekeeper/control');
  const { control: urls, folder, host = hostname(), token } = values;
  // Files first: a token is good once.
  const vmm = await withFabric(await openVmm(values, host, io), values.fabric);
  let identity = control.readIdentity(folder);
  if (identity === null) {
    if (token === undefined) {
      throw new UsageError('bad-combination', '--token: this host has not joined; give one');
    }
    identity = await control.joinControl(urls, token, host, folder);
    io.err(`bridgekeeper: ${host} has joined ${urls.join(', ')}`);
  }
  const link = control.controlLink(urls, identity);
  const time = control.SYSTEM_TIME;
  const onTrouble = ({ code, message }: ControlError) =>
    io.err(`bridgekeeper: ${message} [${code}]`);
  const keepCertificate = async () => {
    while (!stop.aborted) {
      try {
        if (await link.renew(folder, time.nowMs())) io.err('bridgekeeper: certificate renewed');
      } catch (error) {
        if (!(error instanceof control.ControlError)) throw error;
        onTrouble(error);
      }
      await time.sleep(RENEW_CHECK_MS, stop);
    }
  };
  const agent = new control.HostAgent({
    host,
    bootId: bootId(),
    vmm,
    memory: control.memoryFile(folder),
    link,
    askEvidence: control.askReplica,
    time,
    onTrouble,
  });
  const stop = stopSignal(io);
  try {
    await Promise.all([agent.run(stop), keepCertificate()]);
  } finally {
    link.close();
  }
  return 0;
}

/** How long dstack-vmm or Kubernetes may take to answer. */
const ANSWER_SECONDS = 30;

async function openVmm(values: Values<typeof FLAGS>, host: string, io: CliIo): Promise<Vmm> {
  const { dstackHost, kubernetesHost, ProcessVmm, pretendedFacts } = await import(
    '@bridgekeeper/control'
  );
  const { vmm, dstack, kubernetes, folder, images } = values;
  if (vmm === 'process') {
    return new ProcessVmm({
      folder: join(folder, 'guests'),
      facts: pretendedFacts(host),
      images: images === undefined ? OWN_IMAGES : readImages(images, io),
      environment: io.environment,
    });
  }
  const path = vmm === 'dstack' ? dstack : kubernetes;
  if (path === undefined) throw new UsageError('bad-combination', `--${vmm}: name its file`);
  const description = readGivenFile(`--${vmm}`, path, io);
  const { HOST_CLOCK } = await import('@bridgekeeper/server/host-clock');
  const deadline = () => {
    const over = new AbortController();
    HOST_CLOCK.after(ANSWER_SECONDS, () => over.abort());
    return over.signal;
  };
  return (vmm === 'dstack' ? dstackHost : kubernetesHost)(description, deadline);
}

async function withFabric(vmm: Vmm, folder: string | undefined): Promise<Vmm> {
  if (folder === undefined) return vmm;
  const { FabricVmm, hostFabric } = await import('@bridgekeeper/control');
  return new FabricVmm(
    vmm,
    hostFabric(folder, (method, path, body) => askAgent(folder, method, path, body)),
  );
}

/** What there is without a catalogue: the bundled model on the CPU. */
const OWN_IMAGES: Readonly<Record<string, ImageProgram>> = {
  storyteller: {
    program: process.execPath,
    arguments: [LAUNCHER, 'serve', '--device', 'cpu', '--port', '0'],
  },
};

/** Throws UsageError. */
function readImages(path: string, io: CliIo): Readonly<Record<string, ImageProgram>> {
  const text = readGivenFile('--images', path, io);
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (cause) {
    throw new UsageError('bad-file', `--images: ${path} is no JSON`, { cause });
  }
  const isGood = (image: unknown): image is ImageProgram => {
    const { program, arguments: list } = (image ?? {}) as Partial<ImageProgram>;
    return (
      typeof program === 'string' &&
      Array.isArray(list) &&
      list.every((each) => typeof each === 'string')
    );
  };
  if (typeof document === 'object' && document !== null && Object.values(document).every(isGood)) {
    return document as Readonly<Record<string, ImageProgram>>;
  }
  const example = '{"chat": {"program": "/usr/bin/node", "arguments": ["serve.mjs"]}}';
  throw new UsageError('bad-file', `--images: ${path} must be such as ${example}`);
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
