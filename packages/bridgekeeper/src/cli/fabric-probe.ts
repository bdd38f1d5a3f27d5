import type { FabricProbe, PeerGpus } from '@bridgekeeper/fabric';
import {
  flag,
  integer,
  number,
  oneOf,
  onOff,
  text,
  type Values,
} from '@bridgekeeper/server/settings';
import type { CliIo } from '../io.ts';
import type { CliCommand } from './command.ts';

const GPUS_MAX = 16;

const FLAGS = {
  device: flag(oneOf('cuda', 'model'), 'cuda', 'the GPUs that this process sees, or modelled ones'),
  gpus: flag(integer(2, GPUS_MAX), 2, 'with --device model: how many'),
  floor: flag(number(0.001, 10_000), undefined, 'GB/s that every link must reach, by copies'),
  out: flag(text('file'), undefined, 'write the result here'),
  json: flag(onOff(), false, 'as one JSON document'),
};

export const FABRIC_PROBE: CliCommand<typeof FLAGS> = {
  name: 'fabric probe',
  summary: 'measure what moves between the GPUs of this guest',
  flags: FLAGS,
  notes: 'Exits with 1 if GPUs do not reach each other as they should.',
  async run({ values }, io) {
    const { probeFabric, probeLines } = await import('@bridgekeeper/fabric');
    const peers = await openPeers(values, io);
    let probe: FabricProbe;
    try {
      probe = probeFabric(peers, {
        floorBytesPerSecond: values.floor === undefined ? null : values.floor * 1e9,
        onLink: (name, index, total) => io.err(`fabric probe ${index + 1}/${total}: GPU ${name}`),
      });
    } finally {
      peers.close();
    }
    const document = JSON.stringify(probe, null, 1);
    if (values.out !== undefined) io.writeFile(values.out, `${document}\n`);
    io.out(values.json ? document : probeLines(probe).join('\n'));
    return probe.findings.length === 0 ? 0 : 1;
  },
};

async function openPeers({ device, gpus }: Values<typeof FLAGS>, io: CliIo): Promise<PeerGpus> {
  const { H200_PAIR, modelPeers, openCudaPeers } = await import('@bridgekeeper/fabric');
  return device === 'model' ? modelPeers(H200_PAIR, gpus) : openCudaPeers({ nowNs: io.nowNs });
}
