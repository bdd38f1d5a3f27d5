import { InvariantError } from '@bridgekeeper/bridge';
import type { Device } from '@bridgekeeper/device';
import type { Engine } from '@bridgekeeper/engine';
import type { PreparedModel } from '@bridgekeeper/engine/measure';
import {
  type RunningServer,
  settingsWith,
  startConfiguredEngine,
  startServer,
} from '@bridgekeeper/server';
import type { Disk } from '../world/disk.ts';
import type { Life } from '../world/loop.ts';
import { Random } from '../world/random.ts';
import { DeviceTrouble } from './device-trouble.ts';
import { type EngineWatch, watchEngine } from './engine-watch.ts';
import { MODEL_FOLDER, PAGE_TOKENS } from './model.ts';
import { redrawn, type ServerSettings } from './settings.ts';
import type { World } from './world.ts';

/** Where a server listens, on its host. */
export const SERVER_PORT = 8000;
/** What starts a process again that has ended, as systemd does. */
const RESTART_NS = { least: 50e6, most: 2e9 };

/** What a server process can be in: closed, so that what was never reached is known. */
export const SERVER_STATES = ['down', 'starting', 'ready', 'restarting', 'stopping'] as const;
export type ServerState = (typeof SERVER_STATES)[number];

/** One server of the product on a host of its own, over all its lives. */
export class ServerProcess {
  readonly host: string;
  readonly disk: Disk;
  readonly trouble: DeviceTrouble;
  /** The one that runs now, or ran last. */
  life: Life;
  server: RunningServer | null = null;
  engine: EngineWatch | null = null;
  /** Since it was told to stop; null: it was not. */
  stoppingNs: number | null = null;
  starts = 0;
  /** Called with each request that its engine is given. */
  onRequest: () => void = () => {};
  #state: ServerState = 'down';
  /** It ended where receipts may have waited for the disk: unasked, or while the disk failed. */
  mayLackReceipts = false;
  /** Lives that came to the end of a stop. */
  readonly #stopped = new WeakSet<Life>();
  /** Streams that were cut while it stops. */
  #cut: string[] = [];
  readonly #world: World;
  readonly #onEnd: (() => void) | null;
  #settings: ServerSettings;
  /** Of its program: an upgrade goes to the next. */
  #version = 0;

  /** `onEnd`: told when it has ended, which then nothing starts again. */
  constructor(
    world: World,
    host: string,
    settings: ServerSettings,
    onEnd: (() => void) | null = null,
  ) {
    this.#world = world;
    this.#onEnd = onEnd;
    this.host = host;
    this.disk = world.disk(host);
    this.disk.makeFolder(`/sim/${host}`);
    this.#keepModel();
    this.trouble = new DeviceTrouble(new Random(world.seed, `device ${host}`));
    this.#settings = settings;
    this.life = this.#newLife();
  }

  get isUp(): boolean {
    return this.server !== null && this.stoppingNs === null && !this.life.isDead;
  }

  /** Requests that its engine has. */
  get openRequests(): number {
    return this.engine?.open ?? 0;
  }

  bury(): void {
    this.#end();
  }

  /** Whether a start may be refused: its disk fails, or its device has. */
  get mayRefuse(): boolean {
    const { isFull, failing } = this.disk.faults;
    return isFull || failing > 0 || this.disk.hasMisread || this.trouble.hasFailed;
  }

  get hasWeights(): boolean {
    return this.#world.sealed !== null;
  }

  /** Where its weights are. */
  get weightsPath(): string {
    return `/sim/${this.host}/model/model.safetensors`;
  }

  /** Its disk has the model, if it has weights of its own. */
  #keepModel(): void {
    const { sealed } = this.#world;
    if (sealed === null) return;
    const folder = `/sim/${this.host}/model`;
    this.disk.makeFolder(folder);
    for (const [name, bytes] of sealed.files) {
      const path = `${folder}/${name}`;
      const file = this.disk.make(path, 0o600);
      this.disk.write(file, path, 0, bytes);
      this.disk.sync(file, path);
    }
  }

  #modelSettings(): ServerSettings {
    const { sealed } = this.#world;
    if (sealed === null) return { model: MODEL_FOLDER, loadFormat: 'dummy' };
    const { root } = sealed.seal;
    return { model: `/sim/${this.host}/model`, modelSeal: 'require', sealRoot: root };
  }

  /** Writes down that it is in another state, and from which it came. */
  enter(state: ServerState): void {
    if (state === this.#state) return;
    this.#world.judge.reached(`server: ${this.#state} to ${state}`);
    this.#state = state;
  }

  /** Sees whether its engine is being started again. */
  observe(): void {
    if (this.#state !== 'ready' && this.#state !== 'restarting') return;
    const isRestarting = this.trouble.hasFailed && this.engine?.hasFailed === true;
    this.enter(isRestarting ? 'restarting' : 'ready');
  }

  get receiptsPath(): string {
    return `/sim/${this.host}/receipts.sqlite`;
  }

  start(): void {
    const world = this.#world;
    const { life } = this;
    const { judge } = world;
    this.starts += 1;
    this.disk.hasMisread = false;
    this.trouble.hasFailed = false;
    judge.note(`${life.name} starts`);
    this.enter('starting');
    const settings = settingsWith({
      ...this.#modelSettings(),
      servedModelName: ['story'],
      device: 'model',
      host: '127.0.0.1',
      port: SERVER_PORT,
      receipts: this.receiptsPath,
      blockSize: PAGE_TOKENS,
      accessLog: false,
      ...this.#settings,
    });
    life.at(world.loop.nowNs, () => {
      startServer(settings, {
        startEngine: startConfiguredEngine,
        log: world.log,
        clock: life.clock,
        version: { version: `0.0.${this.#version}`, node: '0', commit: null, digest: null },
        machine: NO_MACHINE,
        lockFile: (fd) => world.files.lock(fd),
      }).then(
        (server) => this.#started(life, server),
        (error: Error & { code?: string }) => this.#refused(life, error),
      );
    });
  }

  /** As by kill -9: its files stay as they are. */
  kill(): void {
    this.#world.judge.note(`${this.life.name} is killed`);
    this.mayLackReceipts = true;
    this.#end();
    this.#restartSoon();
  }

  /** The machine loses its power: of its files, what was synced is left. */
  losePower(): void {
    this.#world.judge.note(`${this.host} loses its power`);
    this.mayLackReceipts = true;
    this.#end();
    this.disk.fail();
    this.#restartSoon();
  }

  /** SIGTERM, as `serve` takes it. */
  stop(graceSeconds: number): void {
    const { server, life } = this;
    const { judge, loop } = this.#world;
    // `serve` listens for signals once it has started: before that, one ends it.
    if (this.#state === 'starting') {
      judge.reached('told to stop while it starts');
      this.kill();
    }
    if (server === null || this.stoppingNs !== null || life.isDead) return;
    judge.note(`${life.name} is told to stop`);
    this.enter('stopping');
    this.stoppingNs = loop.nowNs;
    const graceNs = loop.nowNs + graceSeconds * 1e9;
    let hasEnded = false;
    life.at(loop.nowNs, () => {
      void server.stop(graceSeconds).then(() => {
        hasEnded = true;
        judge.note(`${life.name} has stopped`);
        judge.reached('server stopped');
        this.#stopped.add(life);
        for (const stream of this.#cut) this.#untold(life, stream);
        if (this.life === life && !life.isDead) {
          this.mayLackReceipts ||= this.mayRefuse;
          this.#end();
          this.#restartSoon();
        }
      });
    });
    const checkAfter = (moreSeconds: number, isExcused: () => boolean) => {
      const check = () => {
        // It may have been stopped itself for a part of that.
        if (hasEnded || life.isDead || life.stoppedUntilNs > graceNs || isExcused()) return;
        judge.violated('stops-in-time', `${life.name} has not stopped`);
      };
      loop.at(graceNs + moreSeconds * 1e9, check, null);
    };
    checkAfter(STOP_SECONDS_MORE, () => this.trouble.hasFailed);
    checkAfter(HUNG_SECONDS_MORE, () => false);
  }

  /** One of its streams was cut off without a word, and nothing but the server can have done so. */
  cutOff(life: Life, stream: string): void {
    if (this.#stopped.has(life)) this.#untold(life, stream);
    // Should it be killed before it has stopped, that may have been why.
    else if (life === this.life && this.stoppingNs !== null) this.#cut.push(stream);
  }

  #untold(life: Life, stream: string): void {
    const what = `${life.name} has stopped, and did not tell ${stream}, which was open`;
    this.#world.judge.violated('stops-in-time', what);
  }

  /** It stops; the next one is another version, set up otherwise, with the state of this one. */
  upgrade(random: Random): void {
    if (!this.isUp) return;
    this.#version += 1;
    this.#settings = redrawn(random, this.#settings);
    this.#world.judge.note(`${this.host} is upgraded to ${JSON.stringify(this.#settings)}`);
    this.stop(random.of([0, 5]));
  }

  #started(life: Life, server: RunningServer): void {
    const { judge } = this.#world;
    judge.note(`${life.name} is ready`);
    this.enter('ready');
    judge.reached('server started');
    this.server = server;
    void server.engineFailed.then((error) => {
      const cause = rootOf(error);
      judge.note(`${life.name}: its engine failed: ${cause.name}`);
      judge.reached(`engine failed: ${(cause as { code?: string }).code ?? cause.name}`);
      if (cause instanceof InvariantError) judge.violated('orderly', cause.message);
      else if (!this.trouble.hasFailed) {
        judge.violated('orderly', `the engine failed without a cause: ${error.message}`);
      }
      // As `serve` does, which then ends.
      if (this.stoppingNs === null) this.stop(0);
    });
  }

  #refused(life: Life, error: Error & { code?: string }): void {
    const { judge } = this.#world;
    judge.note(`${life.name} cannot start: ${error.name} ${error.code ?? ''}`);
    judge.reached(`start refused: ${error.name} ${error.code ?? ''}`);
    this.#world.startRefused(this, error);
    this.#end();
    this.#restartSoon();
  }

  #end(): void {
    const { life } = this;
    this.enter('down');
    this.engine?.close();
    this.engine = null;
    this.server = null;
    this.stoppingNs = null;
    this.#cut = [];
    this.#world.bury(life);
  }

  #restartSoon(): void {
    if (this.#onEnd !== null) {
      this.#onEnd();
      return;
    }
    const { loop } = this.#world;
    this.life = this.#newLife();
    const { life } = this;
    const delayNs = life.random.between(RESTART_NS.least, RESTART_NS.most);
    const start = () => this.life === life && this.start();
    loop.at(loop.nowNs + delayNs, start, null);
  }

  #newLife(): Life {
    const name = `${this.host}#${this.starts + 1}`;
    return this.#world.newLife(name, this.host);
  }

  /**
   * A load begins. When it is over, whatever became of it, nothing of it is left: what is open
   * before is of a thread that hung and was ended, and a machine closes that.
   */
  load(): () => void {
    const { judge, files } = this.#world;
    const { life } = this;
    const openNow = () => files.openOf(life, (path) => path === this.weightsPath);
    const before = openNow();
    return () => {
      const open = openNow();
      judge.require(
        open <= before,
        'weights-sealed',
        () => `${life.name}: ${open} files of weights are open after the load, ${before} before it`,
      );
    };
  }

  /** Called by the engine's thread. */
  opened(engine: Engine, device: Device, model: PreparedModel): void {
    const { sealed, judge } = this.#world;
    if (sealed !== null) {
      judge.reached('weights loaded');
      judge.require(
        model.sealRoot === sealed.seal.root && sealed.isOn(model.loaded.buffers),
        'weights-sealed',
        () => `${this.life.name} has other weights than its manifest says`,
      );
    }
    this.engine?.close();
    this.engine = watchEngine(this.#world, this, engine, device, model);
  }
}

/** What a stop takes beside the grace: launches that are under way, and the last bytes. */
const STOP_SECONDS_MORE = 9;
/** An engine that hangs is ended after 10 s, and left after 10 more. */
const HUNG_SECONDS_MORE = 25;

const NO_MACHINE = {
  nvmlLibrary: '/nonexistent/libnvidia-ml.so.1',
  tsmFolder: '/nonexistent/tsm',
  dstackSockets: [],
};

function rootOf(error: Error): Error {
  let at: Error = error;
  while (at.cause instanceof Error) at = at.cause;
  return at;
}
