/**
 * Which package may use which, as the arrows in ARCHITECTURE.md. A new package is added here. A key
 * `attest/node` says what files in packages/attest/src/node may use besides.
 */
export const layers: Readonly<Record<string, readonly string[]>> = {
  bridge: [],
  native: [],
  report: [],
  attest: [],
  'attest/node': ['native'], // the rest runs in browsers
  envelope: [],
  client: ['attest', 'envelope'],
  device: ['bridge', 'native'],
  engine: ['bridge', 'device'],
  planner: ['bridge', 'report', 'device', 'engine'],
  server: [
    ...['bridge', 'native', 'device', 'engine', 'attest', 'envelope', 'report', 'console'],
    'planner',
  ],
  probe: ['bridge', 'native', 'report', 'attest', 'device', 'engine', 'server'],
  doctor: ['bridge', 'native', 'report', 'attest', 'device', 'engine', 'planner', 'server'],
  bench: [
    ...['bridge', 'native', 'report', 'attest', 'device', 'engine', 'planner', 'server'],
    ...['fabric', 'control', 'gateway'],
  ],
  gateway: ['bridge', 'server', 'control'],
  simulator: ['bridge', 'device', 'engine', 'attest', 'server', 'fabric', 'control', 'gateway'],
  bridgekeeper: [
    'bridge',
    'native',
    'report',
    'attest',
    'client',
    'device',
    'engine',
    'server',
    'probe',
    'doctor',
    'bench',
    'planner',
    'fabric',
    'control',
    'gateway',
    'console',
  ],
  fabric: ['bridge', 'native', 'attest'],
  control: ['bridge', 'attest', 'fabric'],
  console: ['attest'],
};

/**
 * Which folder may use which, in a folder of sources that has folders. The keys stand in the order
 * of the layers: a folder may use only folders above it, so that no two can need each other. `.` is
 * what lies beside the folders, except files with a key of their own (`create.ts`) and those where
 * the outside comes in (an index, a main, what the manifest exports): these may use every folder,
 * and none uses them. Types count like code. Tests and `testing` stand below it all, without a key.
 */
export type FolderLayers = Readonly<Record<string, readonly string[]>>;

/**
 * By package, or by a folder within one (`device/cuda` for packages/device/src/cuda).
 * `npm run tidy -- --folders` prints what is so, to write a table from.
 */
export const folders: Readonly<Record<string, FolderLayers>> = {
  attest: {
    core: [],
    claims: ['core'],
    transparency: ['core'],
    receipts: ['core', 'claims'],
    nras: ['core', 'claims'],
    revocation: ['core', 'claims'],
    cpu: ['core', 'claims'],
    report: ['core', 'claims', 'receipts'],
    dstack: ['core', 'claims', 'cpu'],
    services: ['core', 'claims', 'nras', 'revocation', 'cpu'],
    nvidia: ['core', 'claims', 'revocation', 'report'],
    hgx: ['core', 'claims', 'nvidia'],
    rim: ['core', 'claims', 'revocation', 'nvidia'],
    policy: [
      'core',
      'claims',
      'receipts',
      'nras',
      'cpu',
      'report',
      'dstack',
      'nvidia',
      'hgx',
      'rim',
    ],
    measure: ['core', 'policy'],
    result: ['core', 'claims', 'policy'],
    verify: [
      'core',
      'claims',
      'receipts',
      'revocation',
      'nras',
      'cpu',
      'report',
      'dstack',
      'services',
      'nvidia',
      'hgx',
      'rim',
      'policy',
      'result',
    ],
    page: ['core', 'claims', 'policy', 'result', 'verify'],
    node: ['core', 'claims', 'report', 'services', 'verify'],
    '.': [
      'core',
      'claims',
      'transparency',
      'receipts',
      'nras',
      'cpu',
      'report',
      'dstack',
      'services',
      'nvidia',
      'hgx',
      'rim',
      'policy',
      'measure',
      'result',
      'verify',
      'node',
    ],
  },
  client: {
    '.': [],
    node: ['.'],
  },
  device: {
    '.': [],
    clock: ['.'],
    law: ['.', 'clock'],
    group: ['.', 'law'],
    cpu: ['.', 'clock', 'law'],
    cuda: ['.', 'clock', 'law', 'group'],
    model: ['.', 'clock', 'law', 'cpu'],
    'open-uploader.ts': ['.', 'clock', 'cpu', 'cuda'],
    contract: ['.', 'open-uploader.ts'],
    'threads.ts': ['.', 'clock', 'open-uploader.ts'],
    'kernels.ts': ['cuda'],
  },
  'device/cpu': {
    kernels: [],
    simd: ['kernels'],
    '.': ['kernels', 'simd'],
  },
  'device/cuda': {
    '.': [],
    kernels: [],
    handles: [],
    copies: ['.'],
    matmul: ['kernels'],
    'warm-up': ['.', 'matmul'],
    'core.ts': ['.', 'kernels', 'handles', 'copies', 'matmul'],
    launch: ['kernels', 'matmul', 'core.ts'],
    operations: ['kernels', 'matmul', 'core.ts', 'launch'],
    'cuda-stream.ts': ['kernels', 'handles', 'core.ts', 'launch', 'operations'],
    'peers.ts': ['core.ts', 'operations', 'cuda-stream.ts'],
    lanes: ['.', 'handles', 'copies', 'core.ts', 'cuda-stream.ts'],
    observe: ['.', 'handles', 'copies', 'core.ts', 'launch'],
    'cuda-device.ts': ['handles', 'core.ts', 'cuda-stream.ts', 'lanes', 'observe'],
    'open.ts': [
      ...['.', 'kernels', 'handles', 'matmul', 'core.ts', 'peers.ts', 'lanes'],
      'cuda-device.ts',
    ],
  },
  engine: {
    models: [],
    kv: [],
    traffic: [],
    mover: ['kv', 'traffic'],
    seal: ['models'],
    text: ['models', 'seal'],
    grammar: ['text'],
    request: ['grammar', 'kv', 'traffic'],
    checkpoint: ['models', 'seal'],
    sealing: ['models', 'seal', 'checkpoint'],
    loader: ['models', 'traffic', 'seal', 'checkpoint'],
    scheduler: ['grammar', 'kv', 'request'],
    replicas: ['kv', 'request'],
    speculation: [],
    runner: ['kv', 'models', 'traffic', 'request', 'scheduler', 'speculation'],
    policies: ['kv', 'traffic', 'request', 'scheduler', 'speculation', 'runner'],
    'sleeper.ts': ['kv', 'traffic', 'request', 'loader', 'runner'],
    'engine.ts': [
      'grammar',
      'kv',
      'traffic',
      'mover',
      'request',
      'scheduler',
      'policies',
      'sleeper.ts',
    ],
    'create.ts': [
      'grammar',
      'models',
      'kv',
      'traffic',
      'mover',
      'request',
      'seal',
      'checkpoint',
      'loader',
      'scheduler',
      'speculation',
      'runner',
      'policies',
      'sleeper.ts',
      'engine.ts',
    ],
    'threads.ts': ['request', 'mover'],
    measure: ['grammar', 'models', 'kv', 'mover', 'runner', 'create.ts'],
    selftest: ['models', 'request', 'scheduler', 'engine.ts', 'create.ts'],
  },
  server: {
    'host-clock.ts': [],
    formats: [],
    settings: ['formats'],
    text: ['host-clock.ts', 'formats'],
    logging: [],
    http: ['host-clock.ts', 'settings'],
    encryption: ['host-clock.ts'],
    seal: ['settings'],
    receipts: ['host-clock.ts', 'settings', 'logging'],
    live: [],
    plan: ['http'],
    engine: ['host-clock.ts', 'settings', 'logging', 'live'],
    grammar: ['host-clock.ts', 'formats', 'http'],
    evidence: ['host-clock.ts', 'settings', 'http', 'receipts', 'engine'],
    openai: [
      'host-clock.ts',
      'formats',
      'text',
      'logging',
      'http',
      'encryption',
      'receipts',
      'live',
      'plan',
      'engine',
      'grammar',
      'evidence',
    ],
    responses: ['text', 'http', 'openai'],
    anthropic: ['text', 'http', 'openai'],
    pooling: ['text', 'http', 'openai'],
    metrics: ['receipts', 'engine', 'openai'],
    routes: [
      'formats',
      'http',
      'encryption',
      'receipts',
      'live',
      'plan',
      'engine',
      'openai',
      'responses',
      'anthropic',
      'pooling',
    ],
    '.': [
      'host-clock.ts',
      'settings',
      'text',
      'logging',
      'http',
      'encryption',
      'seal',
      'receipts',
      'live',
      'plan',
      'engine',
      'evidence',
      'grammar',
      'openai',
      'anthropic',
      'metrics',
      'routes',
    ],
  },
  console: {
    'shape.ts': [],
    timeline: [],
    fleet: ['shape.ts'],
    jsx: [],
    page: ['shape.ts', 'timeline', 'fleet'],
  },
  planner: {
    '.': [],
    gpus: ['.'],
    models: ['.'],
    workload: ['.'],
    simulate: ['.', 'gpus', 'models', 'workload'],
    recommend: ['workload', 'simulate'],
    plan: ['.', 'gpus', 'models', 'workload', 'simulate', 'recommend'],
    report: ['gpus', 'simulate', 'recommend', 'plan'],
    observe: ['.', 'simulate'],
    pool: ['.', 'simulate'],
    validate: ['.', 'gpus', 'models', 'workload', 'simulate'],
  },
  report: {
    '.': [],
    chart: ['.'],
  },
  probe: {
    '.': [],
    fit: ['.'],
    measure: ['.'],
    'run.ts': ['.', 'measure'],
    'document.ts': ['.', 'fit', 'run.ts'],
    'probe.ts': ['.', 'run.ts', 'document.ts'],
    'save.ts': ['document.ts'],
    report: ['.', 'fit', 'document.ts'],
  },
  doctor: {
    command: [],
    '.': ['command'],
    collect: ['.', 'command'],
    rules: ['.', 'command'],
    'planned-gains.ts': ['.', 'command'],
    'examine.ts': ['.', 'command', 'collect', 'rules', 'planned-gains.ts'],
    'render.ts': ['.', 'planned-gains.ts', 'examine.ts'],
    'document.ts': ['.', 'rules'],
  },
  bench: {
    '.': [],
    fuzz: ['.'],
    verify: ['.'],
    serve: ['.'],
    gateway: ['.'],
    grammar: ['.'],
    plan: ['.'],
    kv: ['.', 'serve'],
    'suites.ts': ['.', 'fuzz', 'verify', 'serve', 'gateway', 'grammar', 'plan', 'kv'],
  },
  fabric: {
    'errors.ts': [],
    fm: ['errors.ts'],
    log: ['errors.ts'],
    host: ['errors.ts', 'log'],
    tenancy: ['errors.ts', 'fm', 'log', 'host'],
    agent: ['errors.ts', 'fm', 'log', 'host', 'tenancy'],
    plan: ['errors.ts', 'fm', 'log', 'tenancy'],
    status: ['fm', 'log', 'host', 'tenancy'],
    probe: ['errors.ts'],
    simulate: ['errors.ts', 'fm', 'log', 'host', 'tenancy', 'agent'],
    'open.ts': ['errors.ts', 'fm', 'log', 'host', 'tenancy', 'agent'],
  },
  control: {
    'errors.ts': [],
    'time.ts': [],
    'whole-file.ts': [],
    api: [],
    store: ['errors.ts'],
    vmm: ['errors.ts', 'api'],
    fleet: ['errors.ts', 'api', 'store'],
    lead: ['errors.ts', 'time.ts', 'api', 'store', 'fleet'],
    '.': ['errors.ts', 'time.ts', 'api', 'fleet'],
    serve: ['errors.ts', 'time.ts', 'api', 'store', 'fleet', 'lead', '.'],
    'system.ts': ['time.ts', 'fleet'],
    'measure.ts': ['api', 'store', 'vmm', 'fleet', 'lead', 'system.ts'],
    agent: ['errors.ts', 'time.ts', 'whole-file.ts', 'api', 'vmm', 'serve'],
    simulate: ['errors.ts', 'api', 'store', 'vmm', 'fleet', 'lead', 'system.ts', 'agent'],
    metrics: ['api', 'fleet', 'lead'],
    'open.ts': [
      ...['errors.ts', 'time.ts', 'whole-file.ts', 'api', 'store', 'fleet', 'lead', '.', 'serve'],
      'metrics',
    ],
  },
  gateway: {
    upstream: [],
    choose: [],
    table: [],
    'fleet.ts': ['upstream', 'choose', 'table'],
    relay: ['upstream', 'choose', 'fleet.ts'],
    http: ['choose', 'relay', 'fleet.ts'],
    metrics: ['relay', 'http', 'fleet.ts'],
    '.': ['table', 'relay', 'http', 'metrics', 'fleet.ts'],
  },
  simulator: {
    world: [],
    platform: ['world'],
    product: ['world'],
    clients: ['world', 'product'],
    fleet: ['world', 'product', 'clients'],
    '.': ['world', 'platform', 'product', 'clients', 'fleet'],
    mutants: ['world', '.'],
    'main.ts': ['fleet', '.', 'mutants'],
  },
  bridgekeeper: {
    '.': [],
    selftest: [],
    verify: [],
    connect: ['verify'],
    bundle: [],
    load: ['.'],
    chat: ['.'],
    top: [],
    plan: ['.'],
    cli: ['.', 'selftest', 'verify', 'connect', 'bundle', 'load', 'chat', 'top', 'plan'],
  },
  'attest/node': {
    nvml: [],
    '.': [],
    collect: ['nvml'],
  },
  'engine/grammar': {
    '.': [],
    'json-schema': ['.'],
  },
  'engine/kv': {
    '.': [],
    tiers: ['.'],
    'paged-sequence.ts': ['.', 'tiers'],
    'arrivals.ts': ['.', 'tiers', 'paged-sequence.ts'],
    'prefix-tree.ts': ['.', 'tiers', 'paged-sequence.ts', 'arrivals.ts'],
  },
  'engine/kv/tiers': {
    '.': [],
    policies: ['.'],
    'policies.ts': ['.', 'policies'],
  },
  'server/engine': {
    config: [],
    '.': ['config'],
  },
  'server/openai': {
    schema: [],
    '.': ['schema'],
  },
  'server/settings': {
    '.': [],
    shell: [],
  },
  'engine/text': {
    'utf8.ts': [],
    'marks.ts': [],
    jinja: ['marks.ts'],
    pipeline: ['utf8.ts', 'marks.ts'],
    '.': ['utf8.ts', 'marks.ts', 'jinja', 'pipeline'],
  },
  'engine/loader': {
    strategy: [],
    tensors: [],
    reading: ['tensors'],
    paths: ['strategy', 'tensors', 'reading'],
    '.': ['strategy', 'tensors', 'reading', 'paths'],
  },
};

/** Dependencies that a package lists without importing them, as another dependency's peer. */
export const peers: readonly { readonly package: string; readonly name: string }[] = [
  { package: 'server', name: 'zod' }, // of @hono/zod-openapi
  { package: 'control', name: 'zod' },
];

/** What a file exports for people outside of this repository: it may be used by nothing here. */
export interface PublicNames {
  /** The source behind something that a package's manifest exports. */
  readonly path: string;
  readonly names: readonly string[] | '*';
  readonly reason: string;
}

export const publicNames: readonly PublicNames[] = [
  {
    path: 'packages/attest/src/index.ts',
    names: '*',
    reason: 'verifiers use the package alone, in browsers too',
  },
  {
    path: 'packages/attest/src/node.ts',
    names: '*',
    reason: 'verifiers use the package alone',
  },
  {
    path: 'packages/client/src/index.ts',
    names: '*',
    reason: 'clients use the package alone, in browsers too',
  },
  {
    path: 'packages/client/src/node/index.ts',
    names: '*',
    reason: 'clients use the package alone',
  },
  {
    path: 'packages/control/src/api/index.ts',
    names: '*',
    reason: 'programs of operators call the API with its types',
  },
  {
    path: 'packages/simulator/src/mutants/hooks.ts',
    names: ['initialize', 'load'],
    reason: 'called by Node, as hooks that load modules',
  },
  {
    path: 'packages/bridge/src/index.ts',
    names: '*',
    reason: 'other runtimes and simulations use the package alone',
  },
];

/** Files of more lines than usual, by path, each with why it is one theme. */
export const longFiles: Readonly<Record<string, string>> = {};

/** A name that may be used only where it is at home. */
export interface HomeName {
  /** A global (`Date.now`), or with `member` the name of any object's member or of an export. */
  readonly name: string;
  readonly member?: true;
  /** What everything else uses in its place. */
  readonly instead: string;
}

/** Words that say nothing to a reader from the field, as whole words of exported names. */
export const avoidedWords: Readonly<Record<string, string>> = {
  asked: 'request',
  audience: 'listener',
  door: 'route (one lane and its ledger) or traffic (all of them)',
  dress: 'format',
  tape: 'recording',
  wishes: 'options',
};

/** How data crosses between host and device, and what opens the ways. */
const lanes = ['inlineLane', 'openLane', 'openUploader', 'uploaderStart', 'uploadTarget'];

export const banned: readonly HomeName[] = [
  { name: 'new Date()', instead: 'take a Clock (packages/bridge/src/clock.ts)' },
  { name: 'Date.now', instead: 'take a Clock (packages/bridge/src/clock.ts)' },
  { name: 'performance.now', instead: 'take a Clock (packages/bridge/src/clock.ts)' },
  { name: 'process.hrtime', instead: 'take a Clock (packages/bridge/src/clock.ts)' },
  { name: 'setTimeout', instead: 'await Clock.sleepUntilNs' },
  { name: 'setInterval', instead: 'loop over Clock.sleepUntilNs' },
  { name: 'AbortSignal.timeout', instead: 'await Clock.sleepUntilNs and abort' },
  { name: 'Math.random', instead: 'take a seed (packages/device/src/random.ts)' },
  { name: 'console', instead: 'return the text, or take a logger or a stream' },
  ...lanes.map(
    (name): HomeName => ({
      name,
      member: true,
      instead:
        'submit the copy to the traffic (packages/engine/src/traffic/), which keeps the ledger',
    }),
  ),
];

/** Where names are at home: a path, a folder or an ending (`*.test.ts`), the names, and why. */
export interface Home {
  readonly path: string;
  readonly names: readonly string[];
  readonly reason: string;
}

export const adapters: readonly Home[] = [
  {
    path: 'packages/device/src/clock/system-clock.ts',
    names: ['process.hrtime', 'setTimeout'],
    reason: 'the real clock',
  },
  {
    path: 'packages/server/src/host-clock.ts',
    names: ['new Date()', 'Date.now', 'performance.now', 'setTimeout', 'setInterval'],
    reason: 'the host clock of the command line and the server',
  },
  {
    path: 'packages/client/src/clock.ts',
    names: ['Date.now', 'performance.now', 'setTimeout'],
    reason: 'the clock of a client’s machine, in browsers too',
  },
  {
    path: 'packages/control/src/system.ts',
    names: ['Date.now', 'setTimeout'],
    reason: 'the clock of the machine that control or an agent runs on',
  },
  { path: 'packages/device/', names: lanes, reason: 'makes the lanes and uploaders' },
  {
    path: 'packages/engine/src/traffic/',
    names: lanes,
    reason: 'the one owner of lanes: it orders the crossings and writes them down',
  },
  {
    path: 'packages/simulator/src/product/device-trouble.ts',
    names: lanes,
    reason: 'breaks lanes of a modelled device as GPUs break them',
  },
  {
    path: 'packages/simulator/src/platform/platform.ts',
    names: ['setTimeout', 'setInterval'],
    reason: 'puts the simulation’s own in their place',
  },
  { path: '*.test.ts', names: lanes, reason: 'tests look into a device past the engine' },
  {
    path: 'packages/attest/src/page/main.ts',
    names: ['Date.now'],
    reason: 'the page that verifies has the clock of its browser',
  },
  {
    path: 'packages/console/src/page/',
    names: ['Date.now', 'new Date()', 'performance.now', 'setTimeout', 'setInterval', 'console'],
    reason: 'the console has the clock of its browser',
  },
  {
    path: 'scripts/mutate/',
    names: ['performance.now', 'setTimeout', 'setInterval'],
    reason: 'measures tests and ends those that hang; the packages may not be built',
  },
  {
    path: 'examples/',
    names: ['console', 'Date.now', 'new Date()'],
    reason: 'an example is a whole program: it prints, and has the clock of its machine',
  },
];

/** Threads that many are started of, or that a start waits for. */
export const lightThreadFiles: readonly string[] = [
  'packages/device/src/cpu/compute-worker.ts',
  'packages/device/src/cpu/lane-worker.ts',
  'packages/device/src/cuda/lanes/lane-worker.ts',
  'packages/engine/src/loader/reading/read-worker.ts',
  'packages/engine/src/mover/store-worker.ts',
  'packages/server/src/grammar/grammar-worker.ts',
  'packages/server/src/text-worker.ts',
];

/** Packages that take longer to load than all that such a thread needs. */
export const heavyPackages: readonly string[] = ['zod'];
