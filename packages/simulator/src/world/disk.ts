import type { Life } from './loop.ts';
import type { Random } from './random.ts';

/** What a disk may do wrong; each is on or off for a while. */
export interface DiskFaults {
  /** No room for anything more. */
  isFull: boolean;
  /** Of writes and syncs, so many fail. */
  failing: number;
  /** Syncs return and nothing is kept: a host that lies. */
  isLying: boolean;
  /** Of reads of weights, so many fail, and so many bring less than was asked for. */
  misreading: number;
  short: number;
}

/** Files of weights: what is read of them may fail by itself. */
const isWeights = (path: string) => path.endsWith('.safetensors');

/** A sector is written whole or not at all. */
const SECTOR_BYTES = 512;

type Change =
  | { readonly kind: 'write'; readonly at: number; readonly bytes: Buffer }
  | { readonly kind: 'truncate'; readonly size: number };

/** A change that was not synced, and what was there before: `before` ends where the file did. */
interface Pending {
  readonly change: Change;
  readonly sizeBefore: number;
  /** From `at` of a write, or from `size` of a truncation. */
  readonly before: Buffer;
}

/** A file: as its processes see it, and how it would be found after the power had gone. */
class File {
  data: Buffer = Buffer.alloc(0);
  size = 0;
  pending: Pending[] = [];
  readonly number: number;
  mode: number;
  lockedBy: OpenFile | null = null;

  constructor(number: number, mode: number) {
    this.number = number;
    this.mode = mode;
  }

  write(at: number, bytes: Uint8Array): void {
    this.#change({ kind: 'write', at, bytes: Buffer.copyBytesFrom(bytes) });
  }

  truncate(size: number): void {
    this.#change({ kind: 'truncate', size });
  }

  #change(change: Change): void {
    const [from, to] =
      change.kind === 'write'
        ? [change.at, Math.min(this.size, change.at + change.bytes.length)]
        : [change.size, this.size];
    const before = from < to ? Buffer.copyBytesFrom(this.data, from, to - from) : NOTHING;
    this.pending.push({ change, sizeBefore: this.size, before });
    this.#apply(change);
  }

  #apply(change: Change): void {
    const size = change.kind === 'truncate' ? change.size : change.at + change.bytes.length;
    if (size > this.data.length) {
      const grown = Buffer.alloc(Math.max(size, 2 * this.data.length));
      this.data.copy(grown);
      this.data = grown;
    }
    if (change.kind === 'write') {
      change.bytes.copy(this.data, change.at);
      this.size = Math.max(this.size, size);
    } else {
      this.data.fill(0, size);
      this.size = size;
    }
  }

  #takeBack({ change, sizeBefore, before }: Pending): void {
    before.copy(this.data, change.kind === 'write' ? change.at : change.size);
    this.data.fill(0, sizeBefore, Math.max(sizeBefore, this.size));
    this.size = sizeBefore;
  }

  /** What it costs does not depend on how much is in the file: databases sync all the time. */
  sync(): void {
    if (this.pending.length > 0) this.pending = [];
  }

  /** What is left after the power has gone. */
  fail(random: Random): void {
    const { pending } = this;
    this.pending = [];
    for (const each of [...pending].reverse()) this.#takeBack(each);
    for (const { change } of pending) {
      const luck = random.below(3);
      if (luck === 0) continue;
      if (luck === 1 || change.kind === 'truncate') this.#apply(change);
      else {
        const sectors = Math.ceil(change.bytes.length / SECTOR_BYTES);
        const kept = random.below(sectors + 1) * SECTOR_BYTES;
        if (kept > 0) this.#apply({ ...change, bytes: change.bytes.subarray(0, kept) });
      }
    }
    this.lockedBy = null;
  }
}

const NOTHING = Buffer.alloc(0);

interface OpenFile {
  readonly file: File | null;
  readonly disk: Disk;
  readonly path: string;
  readonly life: Life | null;
  position: number;
  readonly isAppending: boolean;
}

interface NameChange {
  readonly path: string;
  readonly entry: File | 'folder' | null;
}

/** As the system's errors are. */
export class DiskError extends Error {
  readonly code: string;

  constructor(code: string, path: string) {
    const { stackTraceLimit } = Error;
    // Most of them are answers to whether there is a file: where they come from is not looked at.
    Error.stackTraceLimit = 0;
    super(`${code}: ${path}`);
    Error.stackTraceLimit = stackTraceLimit;
    this.code = code;
  }
}

/**
 * A disk with a journal for its names, as ext4 has it: changes of names are kept in their order,
 * and a sync of any file keeps all that came before it. Contents are kept where they were synced;
 * else each write is there, lost or torn, whatever became of the others.
 */
export class Disk {
  readonly faults: DiskFaults = {
    isFull: false,
    failing: 0,
    isLying: false,
    misreading: 0,
    short: 0,
  };
  /** Called once, after the next sync: faults aim at it. */
  afterSync: (() => void) | null = null;
  /** Called once, with the next read of weights. */
  afterRead: (() => void) | null = null;
  /** A read of weights failed, or brought other bits, since this was set to false. */
  hasMisread = false;
  readonly #flipped = new Map<File, Buffer>();
  readonly #random: Random;
  #entries = new Map<string, File | 'folder'>();
  #kept = new Map<string, File | 'folder'>();
  #changes: NameChange[] = [];
  #numbers = 1;

  constructor(random: Random) {
    this.#random = random;
  }

  get(path: string): File | 'folder' | undefined {
    return this.#entries.get(path);
  }

  /** Names directly in a folder. */
  list(path: string): string[] {
    const before = `${path}/`;
    const names: string[] = [];
    for (const each of this.#entries.keys()) {
      if (each.startsWith(before) && !each.includes('/', before.length)) {
        names.push(each.slice(before.length));
      }
    }
    return names.sort();
  }

  make(path: string, mode: number): File {
    this.#mayWrite(path);
    const file = new File(this.#numbers++, mode);
    this.#change({ path, entry: file });
    return file;
  }

  makeFolder(path: string): void {
    this.#mayWrite(path);
    this.#change({ path, entry: 'folder' });
  }

  remove(path: string): void {
    if (this.#entries.get(path) === undefined) throw new DiskError('ENOENT', path);
    this.#change({ path, entry: null });
  }

  rename(from: string, to: string): void {
    const entry = this.#entries.get(from);
    if (entry === undefined) throw new DiskError('ENOENT', from);
    // Both at once, as the journal has it: first the new name, so that one is always there.
    this.#change({ path: to, entry });
    this.#change({ path: from, entry: null });
  }

  write(file: File, path: string, at: number, bytes: Uint8Array): number {
    this.#mayWrite(path);
    file.write(at, bytes);
    return bytes.length;
  }

  truncate(file: File, path: string, size: number): void {
    if (size > file.size) this.#mayWrite(path);
    file.truncate(size);
  }

  sync(file: File | null, path: string): void {
    if (this.#random.chance(this.faults.failing)) throw new DiskError('EIO', path);
    if (this.faults.isLying) return;
    file?.sync();
    for (const { path: name, entry } of this.#changes) {
      if (entry === null) this.#kept.delete(name);
      else this.#kept.set(name, entry);
    }
    this.#changes = [];
    const { afterSync } = this;
    this.afterSync = null;
    afterSync?.();
  }

  /** The machine loses its power. */
  fail(): void {
    // Often nothing had left the journal's memory yet.
    const isNone = this.#random.chance(0.5);
    const whole = isNone ? 0 : this.#random.below(this.#changes.length + 1);
    for (const { path, entry } of this.#changes.slice(0, whole)) {
      if (entry === null) this.#kept.delete(path);
      else this.#kept.set(path, entry);
    }
    this.#changes = [];
    this.#entries = new Map(this.#kept);
    const files = new Set(this.#entries.values());
    for (const each of files) if (each !== 'folder') each.fail(this.#random);
  }

  /** A bit of a file is another one from now on. false: the file has none. */
  flip(path: string): boolean {
    const file = this.#entries.get(path);
    if (file === undefined || file === 'folder' || file.size === 0) return false;
    if (isWeights(path) && !this.#flipped.has(file)) {
      this.#flipped.set(file, Buffer.copyBytesFrom(file.data));
    }
    file.data[this.#random.below(file.size)]! ^= 1 << this.#random.below(8);
    return true;
  }

  /** How much of `bytes` a read brings. Throws DiskError. */
  reads(file: File, path: string, bytes: number): number {
    if (!isWeights(path)) return bytes;
    const { afterRead } = this;
    this.afterRead = null;
    afterRead?.();
    if (this.#flipped.has(file)) this.hasMisread = true;
    if (this.#random.chance(this.faults.misreading)) {
      this.hasMisread = true;
      throw new DiskError('EIO', path);
    }
    const isShort = bytes > 1 && this.#random.chance(this.faults.short);
    return isShort ? this.#random.between(1, bytes - 1) : bytes;
  }

  /** The bits of a file that are others are those that were written, from now on. */
  mend(path: string): void {
    const file = this.#entries.get(path);
    if (file === undefined || file === 'folder') return;
    this.#flipped.get(file)?.copy(file.data);
    this.#flipped.delete(file);
  }

  #mayWrite(path: string): void {
    if (this.faults.isFull) throw new DiskError('ENOSPC', path);
    if (this.#random.chance(this.faults.failing)) throw new DiskError('EIO', path);
  }

  #change(change: NameChange): void {
    this.#changes.push(change);
    if (change.entry === null) this.#entries.delete(change.path);
    else this.#entries.set(change.path, change.entry);
  }
}

/** Handles that no system gives. */
const FIRST_HANDLE = 1 << 28;

/** Everything that is open, on all disks. */
export class OpenFiles {
  readonly #open = new Map<number, OpenFile>();
  #next = FIRST_HANDLE;

  has(fd: unknown): fd is number {
    return typeof fd === 'number' && fd >= FIRST_HANDLE;
  }

  open(file: OpenFile): number {
    const fd = this.#next++;
    this.#open.set(fd, file);
    return fd;
  }

  get(fd: number): OpenFile {
    const file = this.#open.get(fd);
    // A process that has ended has nothing open.
    if (file === undefined || file.life?.isDead === true) throw new DiskError('EBADF', String(fd));
    return file;
  }

  close(fd: number): void {
    const open = this.#open.get(fd);
    if (open === undefined) throw new DiskError('EBADF', String(fd));
    this.#open.delete(fd);
    if (open.file?.lockedBy === open) open.file.lockedBy = null;
  }

  /** As flock(2): held until `fd` is closed, or its process ends. */
  lock(fd: number): boolean {
    const open = this.get(fd);
    if (open.file === null) throw new DiskError('EBADF', open.path);
    const holder = open.file.lockedBy;
    if (holder !== null && holder !== open && holder.life?.isDead !== true) return false;
    open.file.lockedBy = open;
    return true;
  }

  /** How many files of such a path a process has open. */
  openOf(life: Life, isMeant: (path: string) => boolean): number {
    let count = 0;
    for (const open of this.#open.values()) {
      if (open.life === life && isMeant(open.path)) count += 1;
    }
    return count;
  }

  /** What a process had open is closed with its end. */
  closeAllOf(life: Life): void {
    for (const [fd, open] of this.#open) if (open.life === life) this.close(fd);
  }
}
