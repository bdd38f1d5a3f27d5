import type { EngineError } from '@bridgekeeper/engine';
import {
  defaultReceiptsFile,
  type Logger,
  openLog,
  type RunningServer,
  SETTINGS,
  type Settings,
  startServer,
  warmUpDevice,
} from '@bridgekeeper/server';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import type { CliIo } from '../io.ts';
import { readVersion } from '../version.ts';
import type { CliCommand, ExitCode } from './command.ts';
import { locateModel } from './locate-model.ts';
import { fromVllm } from './vllm-spelling.ts';

/** What has not ended by then waits for something that does not come. */
const STUCK_SECONDS = 10;
/** A disk that does not answer is given so long to take the last receipts, and some more. */
const SILENCE_SECONDS = 50;

/** The host's clock counts from there. */
const PROCESS_STARTED_NS = 0;

export const SERVE: CliCommand<typeof SETTINGS> = {
  name: 'serve',
  summary: 'serve a model through the OpenAI API',
  flags: SETTINGS,
  translate: fromVllm,
  run: ({ values, origins }, io, remarks) => {
    const shown = origins.apiKey.kind === 'flag' ? [...remarks, KEY_IS_SHOWN] : remarks;
    return serve(located(values, io), shown, io);
  },
};

const KEY_IS_SHOWN =
  'a key on the command line is visible to every user of this machine: use --api-key-file, or ' +
  'the variable BRIDGEKEEPER_API_KEY';

/** With the model's folder, and the name it was asked for by. Throws UsageError. */
function located(settings: Settings, io: CliIo): Settings {
  const { folder, name } = locateModel(settings, io);
  if (name === null) return { ...settings, model: folder };
  const names = settings.servedModelName.length > 0 ? settings.servedModelName : [name];
  return { ...settings, model: folder, servedModelName: names };
}

/**
 * Serves until a signal or the engine's death. Resolves to the exit code. Throws what `startServer`
 * throws.
 */
async function serve(settings: Settings, remarks: readonly string[], io: CliIo): Promise<ExitCode> {
  const log = openLog({
    level: settings.logLevel,
    pretty: io.isTerminal && !settings.json,
    destination: settings.json ? 2 : 1,
    colour: io.environment.NO_COLOR === undefined,
  });
  for (const remark of remarks) log.warn(remark);
  // While the model's description and tokenizer are read.
  const warmUp = warmUpDevice(settings);
  const server = await startServer(settings, {
    startEngine: io.startEngine,
    log,
    clock: HOST_CLOCK,
    startedNs: PROCESS_STARTED_NS,
    version: readVersion(),
    receiptsFile: defaultReceiptsFile(io.environment),
  }).finally(() => warmUp?.end());
  announce(server, settings, log, io);
  const code = await untilEnd(server, settings, log, io);
  log.info('stopped');
  io.exitLater(STUCK_SECONDS, code);
  return code;
}

function announce(server: RunningServer, settings: Settings, log: Logger, io: CliIo): void {
  const { url, modelName } = server;
  const address = settings.uds === undefined ? url : `unix:${settings.uds}`;
  log.info(`serving ${modelName} at ${address}`);
  const { task, loadSeconds, prepareSeconds } = server.engine.card;
  if (task === 'generate') {
    const talk = `in a browser, or: bridgekeeper chat --url ${url}`;
    if (settings.uds === undefined) log.info(`try: ${url} ${talk}`);
    log.info(`try: ${exampleCall(server, settings)}`);
  }
  const document = {
    url,
    model: modelName,
    uds: settings.uds ?? null,
    loadSeconds,
    prepareSeconds,
    phases: server.phases,
  };
  if (settings.json) io.out(JSON.stringify(document));
}

/** A command that works as it stands: it streams a page of text. */
export function exampleCall(
  { url, modelName }: Pick<RunningServer, 'url' | 'modelName'>,
  settings: Pick<Settings, 'uds' | 'apiKey' | 'apiKeyFile'>,
): string {
  const body = {
    model: modelName,
    prompt: 'Once upon a time',
    max_tokens: 300,
    temperature: 0.8,
    stream: true,
  };
  const socket = settings.uds === undefined ? '' : ` --unix-socket '${settings.uds}'`;
  const key =
    settings.apiKey.length === 0 && settings.apiKeyFile === undefined
      ? ''
      : ' -H "Authorization: Bearer $BRIDGEKEEPER_API_KEY"';
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const json = "-H 'Content-Type: application/json'";
  return `curl -N${socket} ${url}/v1/completions ${json}${key} -d '${quoted}'`;
}

/**
 * A second signal within this time is the first one again; a later one ends the process at once.
 */
const REPEATED_SIGNAL_NS = 1e9;

async function untilEnd(
  server: RunningServer,
  settings: Settings,
  log: Logger,
  io: CliIo,
): Promise<ExitCode> {
  const signalled = new Promise<string>((resolve) => {
    let firstNs: number | undefined;
    io.onSignal((signal) => {
      const nowNs = io.nowNs();
      firstNs ??= nowNs;
      // Ctrl-C under npm arrives twice: from the terminal, and forwarded by npm.
      if (nowNs - firstNs > REPEATED_SIGNAL_NS) io.exit(1);
      resolve(signal);
    });
  });
  const end: string | EngineError = await Promise.race([signalled, server.engineFailed]);
  if (typeof end !== 'string') {
    io.exitLater(STUCK_SECONDS, 1);
    await server.stop(0);
    return 1;
  }
  const { shutdownTimeout } = settings;
  log.info(`${end}: finishing open answers for up to ${shutdownTimeout} s`);
  io.exitLater(shutdownTimeout + SILENCE_SECONDS + STUCK_SECONDS, 1);
  await server.stop(shutdownTimeout);
  return 0;
}
