import { type ChildProcess, execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DEVICE_FAULT } from '@bridgekeeper/device/testing';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { LAUNCHER } from '../../launcher.ts';
import { type Served, serveWith } from '../served-product.ts';

export const sleep = (seconds: number) =>
  HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + seconds * 1e9);
export const nowSeconds = () => HOST_CLOCK.nowNs() / 1e9;

const START_SECONDS = 120;

/** Seconds by the host's clock. */
export interface Outage {
  readonly from: number;
  readonly to: number;
  /** It was killed, and what it had not written is lost. */
  readonly isKill: boolean;
}

/** A server of the product as a process of its own, with what it keeps, and ways to trouble it. */
export class World {
  readonly folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-chaos-'));
  readonly state = join(this.folder, 'state');
  readonly #trigger = join(this.folder, 'fault');
  readonly #program: string;
  readonly #env: NodeJS.ProcessEnv;
  /** Every server that was started. */
  readonly started: Served[] = [];
  /** From when to when one server was gone and the next not there: connections are lost then. */
  readonly outages: Outage[] = [];
  #now: Served | null = null;
  /** Its own file system, which can be filled; null: it could not be had. */
  readonly smallDisk: string | null;

  constructor(program: string = LAUNCHER) {
    this.#program = program;
    this.#env = {
      ...process.env,
      XDG_STATE_HOME: this.state,
      [DEVICE_FAULT.variable]: this.#trigger,
      NODE_OPTIONS: `--import=${DEVICE_FAULT.module}`,
    };
    mkdirSync(this.state);
    const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=6m', 'chaos', this.state]);
    this.smallDisk = status === 0 ? this.state : null;
  }

  /** The server that takes requests now. */
  get server(): Served {
    if (this.#now === null) throw new Error('no server runs');
    return this.#now;
  }

  get url(): string {
    return this.server.url;
  }

  async start(): Promise<Served> {
    const flags = ['--log-level', 'info', '--shutdown-timeout', '5', '--engine-restarts', '100'];
    const served = await serveWith(this.#program, this.#env, flags);
    this.started.push(served);
    this.#now = served;
    return served;
  }

  /** The next launch of the device fails. */
  failDevice(): void {
    writeFileSync(this.#trigger, '');
  }

  /** Ends the server without a word, and starts another over what it left. */
  async kill(): Promise<void> {
    const { child } = this.server;
    const from = nowSeconds();
    child.kill('SIGKILL');
    await ended(child);
    await this.start();
    this.outages.push({ from, to: nowSeconds(), isKill: true });
  }

  /** Starts the next server while this one is told to end. */
  async replace(): Promise<void> {
    const { child } = this.server;
    const from = nowSeconds();
    child.kill('SIGTERM');
    await this.start();
    await ended(child);
    this.outages.push({ from, to: nowSeconds(), isKill: false });
  }

  /** Until it takes requests. Throws after a time in which it must have come back. */
  async untilReady(): Promise<void> {
    const endSeconds = nowSeconds() + START_SECONDS;
    while (nowSeconds() < endSeconds) {
      const response = await fetch(`${this.url}/health`).catch(() => null);
      await response?.body?.cancel();
      if (response?.status === 200) return;
      await sleep(0.1);
    }
    throw new Error(`it does not take requests again within ${START_SECONDS} s`);
  }

  /** So many connections that say nothing. */
  async idle(count: number): Promise<Socket[]> {
    const { port, hostname } = new URL(this.url);
    const sockets = Array.from({ length: count }, () => connect(Number(port), hostname));
    await Promise.all(
      sockets.map(async (socket) => {
        socket.on('error', () => {});
        await once(socket, 'connect').catch(() => {});
      }),
    );
    return sockets;
  }

  fillDisk(): void {
    // As much as there is: the last block that does not fit ends it.
    spawnSync('dd', ['if=/dev/zero', `of=${join(this.state, 'filler')}`, 'bs=4k'], {
      stdio: 'ignore',
    });
  }

  freeDisk(): void {
    rmSync(join(this.state, 'filler'), { force: true });
  }

  /** Its exit code, after SIGTERM. */
  async stop(): Promise<number | null> {
    const { child } = this.server;
    child.kill('SIGTERM');
    await ended(child);
    return child.exitCode;
  }

  remove(): void {
    for (const { child } of this.started) child.kill('SIGKILL');
    if (this.smallDisk !== null) spawnSync('umount', ['-l', this.state]);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
}

/** Packets of this network get lost and late; what is returned ends it. Throws where it may not. */
export function losePackets(percent: number, delayMs: number): () => void {
  const tc = (...args: string[]) => execFileSync('tc', args, { stdio: 'ignore' });
  const netem = ['netem', 'loss', `${percent}%`, 'delay', `${delayMs}ms`];
  tc('qdisc', 'add', 'dev', 'lo', 'root', ...netem);
  return () => tc('qdisc', 'del', 'dev', 'lo', 'root');
}
