import { createHash } from 'node:crypto';
import { startGateway } from '@bridgekeeper/gateway';
import type { Life } from '../world/loop.ts';
import { SERVER_PORT } from './server-process.ts';
import { GATEWAY_KEY, KEYS } from './settings.ts';
import type { World } from './world.ts';

export const GATEWAY_HOST = 'gateway';
export const GATEWAY_PORT = 9000;

type GatewaySource = Parameters<typeof startGateway>[0]['source'];
export type ControlRoutes = Extract<GatewaySource, { readonly kind: 'control' }>;

const ROUTES = `/sim/${GATEWAY_HOST}/routes.json`;
const RESTART_NS = { least: 50e6, most: 1e9 };

/** The product's gateway before all servers, over all its lives. */
export class GatewayProcess {
  readonly #world: World;
  readonly #source: GatewaySource;
  #life: Life;
  #starts = 0;
  gateway: Awaited<ReturnType<typeof startGateway>> | null = null;

  /** `control`: where its routes come from; null: a file that names all servers. */
  constructor(world: World, control: ControlRoutes | null = null) {
    this.#world = world;
    this.#source = control ?? SETTINGS.source;
    const disk = world.disk(GATEWAY_HOST);
    disk.makeFolder(`/sim/${GATEWAY_HOST}`);
    const file = disk.make(ROUTES, 0o600);
    disk.write(file, ROUTES, 0, Buffer.from(JSON.stringify(routesOf(world))));
    disk.sync(file, ROUTES);
    this.#life = world.newLife('gateway#1', GATEWAY_HOST);
  }

  get life(): Life {
    return this.#life;
  }

  get isUp(): boolean {
    return this.gateway !== null;
  }

  start(): void {
    const { loop, judge, log } = this.#world;
    const life = this.#life;
    this.#starts += 1;
    judge.note(`${life.name} starts`);
    judge.reached('gateway');
    life.at(loop.nowNs, () => {
      startGateway(
        { ...SETTINGS, source: this.#source },
        {
          clock: life.clock,
          unixMs: () => life.unixMs(),
          log,
          version: '0.0.0',
        },
      ).then(
        (gateway) => {
          this.gateway = gateway;
          judge.note(`${life.name} is ready`);
        },
        (error: Error) => judge.violated('orderly', `the gateway cannot start: ${error.message}`),
      );
    });
  }

  kill(): void {
    const { loop, judge } = this.#world;
    judge.note(`${this.#life.name} is killed`);
    this.bury();
    this.#life = this.#world.newLife(`gateway#${this.#starts + 1}`, GATEWAY_HOST);
    const life = this.#life;
    const delayNs = life.random.between(RESTART_NS.least, RESTART_NS.most);
    loop.at(loop.nowNs + delayNs, () => this.#life === life && this.start(), null);
  }

  bury(): void {
    this.gateway = null;
    this.#world.bury(this.#life);
  }
}

const SETTINGS = {
  source: { kind: 'file', path: ROUTES },
  host: '127.0.0.1',
  port: GATEWAY_PORT,
  uds: undefined,
  sslKeyfile: undefined,
  sslCertfile: undefined,
  maxConnections: 1000,
  requestTimeout: 30,
  stallTimeout: 60,
  allowedOrigins: [],
  allowedHosts: [],
  operatorKey: [],
  maxBodyBytes: 2 ** 20,
  maxBodiesBytes: 2 ** 24,
  maxWaiting: 1000,
  attempts: 3,
  queueTimeout: 60,
  replicaTimeout: 90,
  accessLog: false,
  affinity: 'on',
  splitAt: 16,
  loadFactor: 1.25,
  holdSeconds: 0,
} as const;

function routesOf({ servers }: World) {
  const replicas = servers.map(({ host }) => ({
    url: `http://${host}:${SERVER_PORT}`,
    name: host,
    credential: GATEWAY_KEY,
  }));
  const tenants = KEYS.map((key) => ({
    name: `of-${key}`,
    keySha256: [createHash('sha256').update(key).digest('hex')],
  }));
  return { pools: [{ name: 'stories', models: ['story'], replicas }], tenants };
}
