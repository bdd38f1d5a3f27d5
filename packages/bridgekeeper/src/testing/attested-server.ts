import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { text as textOf } from 'node:stream/consumers';
import {
  BUILT_IN_POLICIES,
  type GivenFile,
  type Policy,
  type TrustAnchors,
  VENDOR_ROOTS,
} from '@bridgekeeper/attest';
import {
  makeIntelAuthority,
  makeTdxCollateral,
  makeTdxQuote,
  QUOTE_NOW_MS,
} from '@bridgekeeper/attest/testing';
import type { ClientClock } from '@bridgekeeper/client';
import { HOST_CLOCK, type ServerClock } from '@bridgekeeper/server/host-clock';

/** A confidential VM's CPU of a vendor of our own, for real servers of a test. */
export interface TestTee {
  /** Where a server's quotes come from. */
  readonly machine: { readonly dstackSockets: readonly string[]; readonly nvmlLibrary: string };
  readonly anchors: TrustAnchors;
  readonly collateral: GivenFile;
  /** `service`, told which software to expect: that of this CPU. */
  readonly policy: Policy;
  /** At the time of its evidence, which tests move. */
  readonly clock: ClientClock & { passSeconds(seconds: number): void };
  /** The same time, for the server. */
  readonly serverClock: ServerClock;
  /** Quotes are of other software from now on. */
  changeSoftware(): void;
  close(): void;
}

const LAUNCH = '3d'.repeat(48);

/** Listens on a socket in `folder`, as dstack's guest agent does. */
export async function startTestTee(folder: string): Promise<TestTee> {
  const authority = await makeIntelAuthority();
  let mrTd = LAUNCH;
  const socket = join(folder, 'dstack.sock');
  const agent = createServer(async (incoming, outgoing) => {
    const { report_data } = JSON.parse((await textOf(incoming)) || '{}');
    if (incoming.url === '/Info') return outgoing.end('{"app_id":"a"}');
    const reportData = Uint8Array.from(Buffer.from(report_data, 'hex'));
    const quote = Buffer.from(await makeTdxQuote(authority, { reportData, mrTd }));
    const answer = { quote: quote.toString('hex'), event_log: '', report_data };
    return outgoing.end(JSON.stringify(answer));
  });
  agent.listen(socket);
  await once(agent, 'listening');
  const bytes = new Uint8Array(Buffer.from(await makeTdxCollateral(authority)));
  const clock = stoppedClock();
  return {
    machine: { dstackSockets: [socket], nvmlLibrary: '/nonexistent' },
    anchors: { ...VENDOR_ROOTS, intelSgx: new Set([authority.rootSha256]) },
    collateral: { name: 'collateral.json', bytes, isNamed: true },
    policy: policyFor(LAUNCH),
    clock,
    serverClock: {
      ...HOST_CLOCK,
      unixSeconds: () => Math.floor(clock.unixMs() / 1000),
      nowNs: () => HOST_CLOCK.nowNs() + clock.monotonicMs() * 1e6,
      sleepUntilNs: (wakeNs) => HOST_CLOCK.sleepUntilNs(wakeNs - clock.monotonicMs() * 1e6),
    },
    changeSoftware: () => {
      mrTd = 'ee'.repeat(48);
    },
    close: () => {
      agent.close();
      agent.closeAllConnections();
    },
  };
}

function policyFor(launch: string): Policy {
  const service = BUILT_IN_POLICIES.get('service')!;
  const cpu = {
    ...service.require.cpu,
    'cpu.launch': { oneOf: [launch] },
    'cpu.measurements': {},
  };
  return { ...service, name: 'service of a test', require: { ...service.require, cpu } };
}

function stoppedClock(): TestTee['clock'] {
  let passedMs = 0;
  return {
    unixMs: () => QUOTE_NOW_MS + passedMs,
    monotonicMs: () => passedMs,
    after: () => () => undefined,
    passSeconds: (seconds) => {
      passedMs += seconds * 1000;
    },
  };
}
