import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { compileLibrary } from '@bridgekeeper/native/testing';
import { HOST_CLOCK } from '@bridgekeeper/server/host-clock';
import { LAUNCHER } from '../launcher.ts';

const STUB = new URL('../../../native/libnvfm-stub/nvfm.c', import.meta.url);
const VERSION = '590.48.01';
/** Modules are not in PCI order, as on real boards. */
const GPUS = [
  { module: 1, bdf: '0000:2a:00.0', identity: '00000000000000a1' },
  { module: 2, bdf: '0000:1b:00.0', identity: '00000000000000a2' },
] as const;
const TABLE = ['0 1,2', '1 1', '2 2'];
const EMULATION_NS = 4e6;
/** Fabric Manager ends by itself if nobody lists what was active: after 60 s, and here sooner. */
const RESUME_NS = 20e9;
/** Where it listens, and what a start of it reads and leaves. */
const FM_WORDS = [
  '--fm',
  '/run/fm.sock',
  '--fm-config',
  '/etc/fm.cfg',
  '--fm-state',
  '/tmp/fm.state',
];

const NVML = `
#include <string.h>
typedef unsigned long long u64; typedef unsigned u32;
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* t, u64* h) {
  *h = strcmp(t, "${GPUS[0].bdf}") == 0 ? 1 : 2; return 0; }
int nvmlDeviceGetModuleId(u64 h, u32* m) { *m = (u32)h; return 0; }
int nvmlDeviceGetPdi(u64 h, u32* p) { *(u64*)(p + 2) = 0xa0 + h; return 0; }
int nvmlDeviceGetGpuFabricInfoV(u64 h, unsigned char* f) {
  f[28] = 3; *(u32*)(f + 32) = 0x10aa; return 0; }
int nvmlDeviceGetComputeRunningProcesses_v3(u64 h, u32* n, u32* p) { *n = 0; return 0; }
`;

/** The operator's program for VMs: one VM, in files. */
const vmProgram = (folder: string) => `#!/bin/sh
cd ${folder} || exit 1
# Builtins alone for what is asked all the time.
show() { if [ -f $1 ]; then IFS= read -r line < $1; echo "$line"; else echo '[]'; fi; }
case $1 in vms|admitted) show $1; exit ;; esac
IFS= read -r input
vm=$(printf %s "$input" | sed 's/.*"vm":"\\([^"]*\\)".*/\\1/')
case $1 in
  start)
    bdfs=$(printf %s "$input" | sed 's/.*"bdfs":\\(\\[[^]]*\\]\\).*/\\1/')
    echo "$vm" >> started
    printf '[{"id":"%s","state":"running","bdfs":%s,"pid":null}]' "$vm" "$bdfs" > vms.new
    mv vms.new vms ;;
  stop) grep -q "\\"$vm\\"" vms 2>/dev/null && rm vms; true ;;
  attest)
    nonce=$(printf %s "$input" | sed 's/.*"nonce":"\\([^"]*\\)".*/\\1/')
    printf '{"nonce":"%s","digest":"${'00'.repeat(32)}","refusals":[],"identities":${JSON.stringify(
      GPUS.map(({ identity }) => identity),
    )}}' "$nonce" ;;
  admit) printf '[{"vm":"%s","streams":0}]' "$vm" > admitted ;;
  withdraw) rm -f admitted ;;
  *) exit 2 ;;
esac
`;

/**
 * Fabric Manager's service: the stub's fabric, with another instance at each start, and the table
 * that was defined for it meanwhile.
 */
const systemctl = (fabric: string, config: string, table: string) => `#!/bin/sh
# Under the lock that calls of the library take: half a file is not a fabric.
exec 9<> ${fabric}
flock 9
case $1 in
  start)
    phase=serving; grep -q FABRIC_MODE_RESTART=1 ${config} && phase=resuming
    if [ -f ${table} ]; then
      { grep -v active ${fabric}; sed 's/^/inactive was 0 /' ${table}; } > ${fabric}.new
      cat ${fabric}.new > ${fabric}
    fi
    awk -v phase=$phase '/^phase/ { $2 = phase } /^instance/ { $2 += 1 }
      /^active was/ { sub(/^active was ./, "inactive was 0") } { print }' ${fabric} > ${fabric}.new
    cat ${fabric}.new > ${fabric} ;;
  stop) sed 's/^phase .*/phase down/' ${fabric} > ${fabric}.new; cat ${fabric}.new > ${fabric} ;;
esac
`;

/**
 * A host in a folder, for agents that are processes: sysfs and proc with two GPUs behind a kernel
 * that is emulated here, NVML and libnvfm compiled from C, a service manager and VMs as scripts.
 */
export class FabricTestHost {
  readonly state: string;
  readonly #folder: string;
  readonly #fabric: string;
  readonly #table: string;
  #fmWords: readonly string[] = FM_WORDS;
  #resumingNs: number | null = null;
  #isClosed = false;
  /** Whether commands are told of a program for VMs, which is run with each look. */
  hasProgram = true;
  resets = 0;
  #said = '';
  #boots = 2;

  constructor(folder: string) {
    this.#folder = folder;
    this.state = join(folder, 's');
    this.#fabric = join(folder, 'fabric');
    this.#table = join(folder, 'table');
    const table = TABLE.map((line) => `inactive was 0 ${line}`);
    writeFileSync(this.#fabric, `${['phase serving', 'instance 1', ...table].join('\n')}\n`);
    mkdirSync(this.state, { mode: 0o700 });
    mkdirSync(join(folder, 'lib'));
    compileLibrary(join(folder, 'lib'), 'nvfm', readFileSync(STUB, 'utf8'));
    compileLibrary(join(folder, 'lib'), 'nvidia-ml', NVML, '.so.1');
    const version = '#!/bin/sh\necho "Fabric Manager version is : 590.48.01"\n';
    this.#script('bin/nv-fabricmanager', version);
    this.#script('bin/systemctl', systemctl(this.#fabric, this.#root('etc/fm.cfg'), this.#table));
    mkdirSync(join(folder, 'vms'));
    this.#script('bin/vm-program', vmProgram(join(folder, 'vms')));
    this.#put('etc/fm.cfg', 'FABRIC_MODE=1\nFABRIC_MODE_RESTART=0\n');
    this.#put('tmp/fm.state', 'x');
    this.#put('proc/sys/kernel/random/boot_id', 'boot-1\n');
    this.#put('proc/stat', 'btime 1000\n');
    this.#put('sys/module/nvidia/version', `${VERSION}\n`);
    this.#put('sys/bus/pci/drivers_probe', '');
    for (const driver of ['nvidia', 'vfio-pci'])
      this.#put(`sys/bus/pci/drivers/${driver}/unbind`, '');
    for (const [i, { bdf }] of GPUS.entries()) this.#device(bdf, `pci0000:00/0000:00:0${i}.0`);
    this.#emulate();
    // It ends when the host is closed.
    void this.#run();
  }

  close(): void {
    this.#isClosed = true;
  }

  /** What commands are told of Fabric Manager in place of the library's stub. */
  useManager(words: readonly string[]): void {
    this.#fmWords = words;
  }

  /** What Fabric Manager reads with its next start: lines of an id and its modules. */
  defineTable(lines: readonly string[]): void {
    writeFileSync(this.#table, `${lines.join('\n')}\n`);
  }

  /** As after a restart of the machine: nothing of before runs. */
  reboot(): void {
    rmSync(join(this.#folder, 'vms/vms'), { force: true });
    this.#editFabric(['-e', 's/^active was ./inactive was 0/']);
    this.#put('proc/sys/kernel/random/boot_id', `boot-${this.#boots++}\n`);
  }

  get #environment(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      PATH: `${join(this.#folder, 'bin')}:${process.env.PATH}`,
      LD_LIBRARY_PATH: join(this.#folder, 'lib'),
      NVFM_STUB_STATE: this.#fabric,
    };
  }

  /** The words of a command, with what it must know of this host. */
  words(...words: string[]): string[] {
    const [command] = words;
    // What looks at no host is told of none.
    if (command === 'plan') return [LAUNCHER, 'fabric', ...words, '--state', this.state];
    const program = join(this.#folder, 'bin/vm-program');
    const vms = this.hasProgram ? ['--vm-program', program] : [];
    const host = ['--host', 'host-1', '--root', this.#root(''), '--state', this.state];
    return [LAUNCHER, 'fabric', ...words, ...host, ...this.#fmWords, ...vms];
  }

  /** A process of `bridgekeeper fabric ...`. */
  start(...words: string[]) {
    const child = spawn(process.execPath, this.words(...words), {
      env: this.#environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    // A pipe that nobody reads blocks who writes to it.
    child.stdout.resume();
    child.stderr.resume();
    return child;
  }

  /** Runs it to its end. */
  async run(...words: string[]): Promise<{ code: number | null; out: string; err: string }> {
    const process = this.start(...words);
    let [out, err] = ['', ''];
    process.stdout.on('data', (text) => {
      out += text;
    });
    process.stderr.on('data', (text) => {
      err += text;
    });
    const code = await new Promise<number | null>((resolve) => process.on('close', resolve));
    return { code, out, err };
  }

  /** What the next calls of Fabric Manager's library meet. */
  plant(fault: string, count = 1): void {
    this.#editFabric(['-e', '/^fault /d', '-e', `1i fault ${fault} ${count}`]);
  }

  /** Whether the planted fault is used up. */
  get isMet(): boolean {
    const text = readFileSync(this.#fabric, 'utf8');
    // It stands before the partitions: without one of them, half a file was read.
    return /^(?:in)?active /m.test(text) && !/^fault /m.test(text);
  }

  /** Ids of active partitions. */
  get active(): string[] {
    // Under the lock that calls of the library take: none of them is half done.
    const text = execFileSync('flock', [this.#fabric, 'cat', this.#fabric], { encoding: 'utf8' });
    return [...text.matchAll(/^active was \d (\d+)/gm)].map(([, id]) => id!);
  }

  /** Ids of VMs that were ever started, in order. */
  get started(): string[] {
    const path = join(this.#folder, 'vms/started');
    return existsSync(path) ? readFileSync(path, 'utf8').trim().split('\n') : [];
  }

  get hasVm(): boolean {
    return existsSync(join(this.#folder, 'vms/vms'));
  }

  /** Read and written under the lock that calls of the library take, in place as they write. */
  #editFabric(sedWords: readonly string[]): void {
    const edit = 'text=$(sed "$@") && printf "%s\\n" "$text" > "$0"';
    execFileSync('flock', [
      this.#fabric,
      'sh',
      '-c',
      edit,
      this.#fabric,
      ...sedWords,
      this.#fabric,
    ]);
  }

  #device(bdf: string, place: string): void {
    const folder = `sys/devices/${place}/${bdf}`;
    const word = Buffer.alloc(64);
    word.writeUInt32LE(0x2901_10de);
    this.#put(`${folder}/vendor`, '0x10de\n');
    this.#put(`${folder}/class`, '0x030200\n');
    this.#put(`${folder}/config`, word);
    this.#put(`${folder}/reset_method`, 'flr bus\n');
    this.#put(`${folder}/reset`, '');
    this.#put(`${folder}/driver_override`, '');
    this.#link(`${folder}/driver`, '../../../../bus/pci/drivers/nvidia');
    this.#link(`${folder}/iommu_group`, `../../../../kernel/iommu_groups/${bdf.slice(5, 7)}`);
    this.#link(`sys/bus/pci/devices/${bdf}`, `../../../devices/${place}/${bdf}`);
  }

  async #run(): Promise<void> {
    while (!this.#isClosed) {
      this.#emulate();
      await HOST_CLOCK.sleepUntilNs(HOST_CLOCK.nowNs() + EMULATION_NS);
    }
  }

  /** What the kernel does with what was written to it, and who runs. */
  #emulate(): void {
    for (const driver of ['nvidia', 'vfio-pci']) {
      const bdf = this.#take(`sys/bus/pci/drivers/${driver}/unbind`);
      if (bdf !== '') rmSync(this.#root(`sys/bus/pci/devices/${bdf}/driver`), { force: true });
    }
    const probed = this.#take('sys/bus/pci/drivers_probe');
    if (probed !== '') {
      const folder = `sys/bus/pci/devices/${probed}`;
      const driver = readFileSync(this.#root(`${folder}/driver_override`), 'utf8');
      rmSync(this.#root(`${folder}/driver`), { force: true });
      symlinkSync(`../../../../bus/pci/drivers/${driver}`, this.#root(`${folder}/driver`));
    }
    for (const { bdf } of GPUS) {
      if (this.#take(`sys/bus/pci/devices/${bdf}/reset`) === '1') this.resets += 1;
    }
    const fabric = readFileSync(this.#fabric, 'utf8');
    const instance = /^instance (\d+)$/m.exec(fabric)?.[1];
    const isDown = /^phase down$/m.test(fabric);
    // Half a file is one that is being written.
    if (instance === undefined) return;
    this.#endIfNotResumed(/^phase resuming$/m.test(fabric));
    const fields = Array.from({ length: 18 }, () => '0').join(' ');
    const said = isDown ? 'down' : instance;
    if (said === this.#said) return;
    this.#said = said;
    if (isDown) rmSync(this.#root('proc/77'), { recursive: true, force: true });
    else this.#put('proc/77/stat', `77 (nv-fabricmanage) S ${fields} ${instance} 0 0\n`);
  }

  #endIfNotResumed(isResuming: boolean): void {
    const nowNs = HOST_CLOCK.nowNs();
    this.#resumingNs = isResuming ? (this.#resumingNs ?? nowNs) : null;
    if (this.#resumingNs === null || nowNs - this.#resumingNs < RESUME_NS) return;
    this.#editFabric(['-e', 's/^phase .*/phase down/']);
  }

  #take(path: string): string {
    const text = readFileSync(this.#root(path), 'utf8');
    if (text !== '') writeFileSync(this.#root(path), '');
    return text;
  }

  #root(path: string): string {
    return join(this.#folder, 'root', path);
  }

  #put(path: string, content: string | Uint8Array): void {
    const full = this.#root(path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(`${full}.new`, content);
    renameSync(`${full}.new`, full);
  }

  #link(path: string, target: string): void {
    mkdirSync(dirname(this.#root(path)), { recursive: true });
    symlinkSync(target, this.#root(path));
  }

  #script(path: string, text: string): void {
    const full = join(this.#folder, path);
    mkdirSync(dirname(full), { recursive: true });
    writeFileSync(full, text);
    chmodSync(full, 0o755);
  }
}
