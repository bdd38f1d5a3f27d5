import { mkdirSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { AskFabric } from '@bridgekeeper/control';
import {
  Agent,
  AgentCommands,
  agentListener,
  FabricError,
  FileStore,
  openLog,
  runAgent,
  SimulatedHost,
} from '@bridgekeeper/fabric';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import { Random } from '../world/random.ts';
import { FleetProcess } from './process.ts';

/** In place of the agent's socket, which is on the host's disk. */
const FABRIC_PORT = 7000;
const HAND_NS = { least: 0.2e6, most: 20e6 };

type Ports = ReturnType<SimulatedHost['ports']>;

/**
 * The product's agent of a host's fabric, over Fabric Manager, GPUs and drivers of the fabric's own
 * simulation, which watches what is done to them.
 */
export class FabricProcess extends FleetProcess {
  readonly kind = 'fabric';
  readonly board: SimulatedHost;
  /** Since when the host has been up: clocks of before are no more. */
  #bootNs = 0;
  #found = 0;
  #pids = 1_000_000;

  constructor(world: World, host: string) {
    super(world, host, `${host}-fabric`);
    this.board = new SimulatedHost({
      seed: new Random(world.seed, `fabric ${host}`).word(),
      faultProbability: 0,
      crashProbability: 0,
    });
  }

  get folder(): string {
    return `/sim/${this.host}/fabric`;
  }

  /** As the program of the host's operator asks. */
  ask(): AskFabric {
    return (method, path, body) =>
      new Promise((resolve, reject) => {
        const sent = request({ host: this.host, port: FABRIC_PORT, method, path, timeout: 60_000 });
        const silent = (cause: Error) =>
          reject(new FabricError('agent-running', 'the agent does not answer', { cause }));
        sent.on('timeout', () => sent.destroy(new Error('no answer')));
        sent.on('error', (error: NodeJS.ErrnoException) => {
          if (error.code === 'ECONNREFUSED') resolve(null);
          else silent(error);
        });
        sent.on('response', (response) => {
          let text = '';
          response.on('data', (bytes: Buffer) => {
            text += bytes;
          });
          response.on('error', silent);
          response.on('end', () => {
            const read = JSON.parse(text);
            if (response.statusCode === 200) return resolve(read);
            const { code, message } = read.error;
            reject(new FabricError(code, message));
          });
        });
        sent.end(body === undefined ? undefined : JSON.stringify(body));
      });
  }

  /** A guest begins on GPUs: whether they are as a guest must find them. Returns what it holds. */
  hold(id: string, modules: readonly number[]): number {
    const { board } = this;
    this.#pass();
    const gpus = board.gpus.filter(({ module }) => modules.includes(module));
    board.watcher.startingVm(id, gpus);
    board.watcher.startedVm(id);
    this.#pids += 1;
    for (const gpu of gpus) {
      gpu.holders.push(this.#pids);
      gpu.isDirty = true;
    }
    this.look();
    return this.#pids;
  }

  /** Nothing of a guest runs any more. */
  release(pid: number): void {
    for (const gpu of this.board.gpus) gpu.holders = gpu.holders.filter((held) => held !== pid);
  }

  override losePower(): void {
    super.losePower();
    this.board.restartHost();
    this.#bootNs = this.world.loop.nowNs;
  }

  /** What the watcher has noticed since the last look. */
  look(): void {
    const { violations } = this.board.watcher;
    for (const { what } of violations.slice(this.#found)) {
      this.world.judge.violated('fabric-kept', `${this.host}: ${what}`);
    }
    this.#found = violations.length;
  }

  /** At the end: what was logged is whole, and explains what is. */
  lookAtEnd(): void {
    if (this.#agent !== null) this.board.watcher.end(this.#agent.state);
    this.look();
  }

  #agent: Agent | null = null;

  protected async main(life: Life): Promise<void> {
    const { host, folder, board, world } = this;
    const { judge } = world;
    const nowMs = () => life.unixMs();
    const ports = board.ports();
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const log = openLog({ folder, host, nowMs });
    const store = new FileStore(folder);
    const { watcher } = board;
    const clock = {
      nowNs: () => world.loop.nowNs - this.#bootNs,
      sleepUntilNs: (wakeNs: number) => life.clock.sleepUntilNs(wakeNs + this.#bootNs),
    };
    const agent = await Agent.open({
      ...ports,
      host,
      nowMs,
      clock,
      probe: this.#paced(life, ports.probe),
      hands: this.#hands(life, ports.hands),
      log: {
        size: () => log.size(),
        read: (start, max) => log.read(start, max),
        append: async (entry) => {
          watcher.appending(entry);
          const index = await log.append(entry);
          board.log.length = Math.min(board.log.length, index);
          board.log.push(entry);
          watcher.acknowledged(index, entry);
          this.look();
          return index;
        },
      },
      store: {
        read: () => store.read(),
        replace: async (state) => {
          watcher.saving(state);
          this.look();
          await store.replace(state);
        },
      },
    });
    this.#agent = agent;
    const commands = new AgentCommands();
    const view = { status: async () => null, state: () => agent.state };
    await new Promise<void>((resolve) => {
      createServer(agentListener(view, commands)).listen(FABRIC_PORT, () => resolve());
    });
    judge.note(`${life.name} answers`);
    judge.reached('fabric agent started');
    await runAgent({
      agent,
      clock,
      desired: () => null,
      isStopping: () => false,
      onTrouble: ({ code, message }) => {
        judge.note(`${life.name}: ${message}`);
        judge.reached(`fabric trouble: ${code}`);
      },
      commands,
    });
  }

  #hands(life: Life, hands: Ports['hands']): Ports['hands'] {
    const paced = Object.entries(hands).map(([name, part]) => [
      name,
      typeof part === 'function' ? part : this.#paced(life, part),
    ]);
    return Object.fromEntries(paced) as Ports['hands'];
  }

  /** Each call takes its time, and what it does has happened before it is answered. */
  #paced<T extends object>(life: Life, part: T): T {
    const calls = Object.entries(part).map(([name, call]) => [
      name,
      async (...values: unknown[]) => {
        await this.#rest(life);
        this.#pass();
        try {
          return await call(...values);
        } finally {
          this.look();
          await this.#rest(life);
        }
      },
    ]);
    return Object.fromEntries(calls) as T;
  }

  #rest(life: Life): Promise<void> {
    const { loop } = this.world;
    const restNs = life.random.between(HAND_NS.least, HAND_NS.most);
    return new Promise((resolve) => life.at(loop.nowNs + restNs, resolve));
  }

  #pass(): void {
    this.board.pass(this.world.loop.nowNs - this.#bootNs);
  }
}
