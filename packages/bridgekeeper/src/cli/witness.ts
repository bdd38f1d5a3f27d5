import { once } from 'node:events';
import { createServer } from 'node:http';
import {
  flag,
  integer,
  repeated,
  text,
  UsageError,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand } from './command.ts';
import { stopSignal } from './stop-signal.ts';

const FLAGS = {
  name: flag(text('name'), undefined, 'this witness’s name, such as witness.example/w1'),
  logKey: flag(repeated(text('vkey')), undefined, 'the key of a log to watch; may be repeated'),
  folder: flag(text('folder'), 'witness', 'where its key and what it has cosigned are kept'),
  host: flag(text('address'), '127.0.0.1', 'where it listens'),
  port: flag(integer(0, 65_535), 7380, 'where it listens'),
};

export const WITNESS: CliCommand<typeof FLAGS> = {
  name: 'witness',
  summary: 'cosign logs that only grow, so that none can show two readers two histories',
  flags: FLAGS,
  notes: 'Serves POST /add-checkpoint of C2SP tlog-witness, until interrupted.',
  run: ({ values }, io) => serveWitness(values, io),
};

async function serveWitness(values: Values<typeof FLAGS>, io: CliIo): Promise<0> {
  const { readNoteKey } = await import('@bridgekeeper/attest/log');
  const { openWitness, witnessListener } = await import('@bridgekeeper/fabric');
  const { HOST_CLOCK } = await import('@bridgekeeper/server/host-clock');
  const { name, logKey = [], folder, host, port } = values;
  if (name === undefined || logKey.length === 0) {
    throw new UsageError(
      'bad-combination',
      '--name and --log-key: say who it is and what it watches',
    );
  }
  const logs = await Promise.all(logKey.map(readNoteKey));
  const { witness, vkey } = openWitness(folder, name, logs, () => HOST_CLOCK.unixSeconds());
  const server = createServer(witnessListener(witness)).listen(port, host);
  await once(server, 'listening');
  const address = server.address();
  const where = typeof address === 'object' && address !== null ? address.port : port;
  io.out(`${vkey}\nhttp://${host}:${where}/add-checkpoint`);
  const stop = stopSignal(io);
  if (!stop.aborted) await once(stop, 'abort');
  server.close();
  server.closeAllConnections();
  return 0;
}
