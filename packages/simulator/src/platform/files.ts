import fs from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Disk, DiskError, type OpenFiles } from '../world/disk.ts';
import type { Life, Loop } from '../world/loop.ts';

/** All that is under here is on simulated disks: `/sim/<host>/...`. */
const DISKS = '/sim/';

/** The product's own files, whose digest each server takes: it is slow, and nobody looks at it. */
const PACKAGES = fileURLToPath(new URL('../../../', import.meta.url));

interface Parts {
  readonly loop: Loop;
  readonly files: OpenFiles;
  /** By host. */
  readonly disks: ReadonlyMap<string, Disk>;
  /** Files that every host has, and none writes to, by path. */
  readonly given: ReadonlyMap<string, Buffer>;
}

const { constants } = fs;

// biome-ignore lint/suspicious/noExplicitAny: the functions of node:fs take what they take
type Any = any;

const isBigOf = (options: Any) => options?.bigint === true;

function statOf(entry: ReturnType<Disk['get']> | Buffer, isBig: boolean) {
  const isFolder = entry === 'folder';
  const isGiven = Buffer.isBuffer(entry);
  const [size, ino, mode] =
    isFolder || entry === undefined
      ? [0, 1, 0o40700]
      : isGiven
        ? [entry.length, 2, 0o100600]
        : [entry.size, entry.number + 2, 0o100000 | entry.mode];
  const number = (value: number) => (isBig ? BigInt(value) : value);
  return {
    size: number(size),
    ino: number(ino),
    dev: number(7),
    mode: number(mode),
    uid: number(0),
    mtimeMs: number(0),
    mtimeNs: number(0),
    isFile: () => !isFolder,
    isDirectory: () => isFolder,
    isSymbolicLink: () => false,
    isSocket: () => false,
  };
}

function flagsOf(flags: unknown): number {
  if (typeof flags === 'number') return flags;
  switch (flags) {
    case 'w':
      return constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC;
    case 'wx':
      return constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL;
    case 'a':
      return constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND;
    case 'a+':
      return constants.O_RDWR | constants.O_CREAT | constants.O_APPEND;
    case 'r+':
      return constants.O_RDWR;
    default:
      return constants.O_RDONLY;
  }
}

type Functions = Record<string, (...args: Any[]) => Any>;

/** Those that take what is open. */
function handleFunctions(files: OpenFiles): Functions {
  const writeSync = (fd: number, data: Any, a?: Any, b?: Any, c?: Any): number => {
    const open = files.get(fd);
    const isText = typeof data === 'string';
    const bytes: Uint8Array = isText
      ? Buffer.from(data)
      : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const [offset, length, position] = isText
      ? [0, bytes.length, a]
      : [a ?? 0, b ?? bytes.length - (a ?? 0), c];
    const part = bytes.subarray(offset, offset + length);
    const at = position == null ? (open.isAppending ? open.file!.size : open.position) : position;
    const written = open.disk.write(open.file!, open.path, Number(at), part);
    if (position == null) open.position = Number(at) + written;
    return written;
  };

  const readSync = (fd: number, into: Any, a?: Any, b?: Any, c?: Any): number => {
    const options = typeof a === 'object' && a !== null ? a : null;
    const offset = options === null ? (a ?? 0) : (options.offset ?? 0);
    const length = (options === null ? b : options.length) ?? into.byteLength - offset;
    const position = options === null ? c : options.position;
    const open = files.get(fd);
    const file = open.file!;
    const at = position == null ? open.position : Number(position);
    const end = Math.min(file.size, at + length);
    const count = end > at ? open.disk.reads(file, open.path, end - at) : 0;
    const target = new Uint8Array(into.buffer, into.byteOffset + offset, length);
    if (count > 0) target.set(file.data.subarray(at, at + count));
    if (position == null) open.position = at + count;
    return count;
  };

  const fsyncSync = (fd: number): void => {
    const { disk, file, path } = files.get(fd);
    disk.sync(file, path);
  };

  return {
    closeSync: (fd) => files.close(fd),
    fsyncSync,
    fdatasyncSync: fsyncSync,
    writeSync,
    readSync,
    ftruncateSync: (fd, size = 0) => {
      const { disk, file, path } = files.get(fd);
      disk.truncate(file!, path, Number(size));
    },
    fstatSync: (fd, options) => {
      const { file } = files.get(fd);
      return statOf(file ?? 'folder', isBigOf(options));
    },
  };
}

/** The functions of node:fs on simulated disks, and on the machine's own where a path is there. */
export function simulatedFiles(parts: Parts): Readonly<Record<string, (...args: Any[]) => Any>> {
  const { loop, files, disks, given } = parts;
  const real: Any = { ...fs };
  const isOurs = (path: unknown): path is string =>
    typeof path === 'string' && path.startsWith(DISKS);
  const diskOf = (path: string): Disk => {
    const disk = disks.get(path.slice(DISKS.length).split('/', 1)[0]!);
    if (disk === undefined) throw new DiskError('ENOENT', path);
    return disk;
  };
  const life = (): Life | null => loop.current;
  const byHandle = handleFunctions(files);
  const writeSync = byHandle.writeSync!;
  const fsyncSync = byHandle.fsyncSync!;

  const entryOf = (path: string) => given.get(path) ?? diskOf(path).get(path);

  const openSync = (path: string, flags: unknown = 'r', mode: unknown = 0o666): number => {
    const wanted = flagsOf(flags);
    const disk = diskOf(path);
    let entry = disk.get(path);
    if (entry !== undefined && (wanted & constants.O_EXCL) !== 0) {
      throw new DiskError('EEXIST', path);
    }
    if (entry === undefined) {
      if ((wanted & constants.O_CREAT) === 0) throw new DiskError('ENOENT', path);
      if (disk.get(dirname(path)) !== 'folder') throw new DiskError('ENOENT', path);
      entry = disk.make(path, Number(mode) & 0o777);
    }
    const file = entry === 'folder' ? null : entry;
    if (file !== null && (wanted & constants.O_TRUNC) !== 0) disk.truncate(file, path, 0);
    const isAppending = (wanted & constants.O_APPEND) !== 0;
    return files.open({ file, disk, path, life: life(), position: 0, isAppending });
  };

  const readFileSync = (path: string, options?: Any): Buffer | string => {
    const entry = entryOf(path);
    if (entry === undefined) throw new DiskError('ENOENT', path);
    if (entry === 'folder') throw new DiskError('EISDIR', path);
    const bytes = Buffer.isBuffer(entry)
      ? Buffer.from(entry)
      : Buffer.from(entry.data.subarray(0, entry.size));
    const encoding = typeof options === 'string' ? options : options?.encoding;
    return encoding == null ? bytes : bytes.toString(encoding);
  };

  const writeFileSync = (path: string, data: Any, options?: Any): void => {
    const fd = openSync(path, options?.flag ?? 'w', options?.mode ?? 0o666);
    try {
      writeSync(fd, data);
      if (options?.flush === true) fsyncSync(fd);
    } finally {
      files.close(fd);
    }
  };

  const removeSync = (path: string, options?: Any): void => {
    const disk = diskOf(path);
    const entry = disk.get(path);
    if (entry === undefined) {
      if (options?.force === true) return;
      throw new DiskError('ENOENT', path);
    }
    if (options?.recursive === true) {
      for (const name of disk.list(path)) removeSync(`${path}/${name}`, options);
    }
    disk.remove(path);
  };

  const ours: Record<string, (...args: Any[]) => Any> = {
    openSync,
    readFileSync,
    writeFileSync,
    existsSync: (path) => entryOf(path) !== undefined,
    accessSync: (path) => {
      if (entryOf(path) === undefined) throw new DiskError('ENOENT', path);
    },
    statSync: (path, options) => {
      const entry = entryOf(path);
      if (entry === undefined) {
        if (options?.throwIfNoEntry === false) return undefined;
        throw new DiskError('ENOENT', path);
      }
      return statOf(entry, isBigOf(options));
    },
    realpathSync: (path) => {
      if (entryOf(path) === undefined) throw new DiskError('ENOENT', path);
      return path;
    },
    readdirSync: (path) => {
      const before = `${path}/`;
      const names = [...given.keys()].filter((each) => each.startsWith(before));
      if (names.length > 0) return names.map((name) => name.slice(before.length)).sort();
      if (diskOf(path).get(path) !== 'folder') throw new DiskError('ENOENT', path);
      return diskOf(path).list(path);
    },
    mkdirSync: (path, options) => {
      const disk = diskOf(path);
      if (disk.get(path) !== undefined) {
        if (options?.recursive === true) return undefined;
        throw new DiskError('EEXIST', path);
      }
      const parent = dirname(path);
      if (disk.get(parent) !== 'folder' && `${parent}/` !== DISKS) {
        if (options?.recursive !== true) throw new DiskError('ENOENT', path);
        ours.mkdirSync!(parent, options);
      }
      disk.makeFolder(path);
      return undefined;
    },
    rmdirSync: removeSync,
    unlinkSync: removeSync,
    rmSync: removeSync,
    renameSync: (from, to) => diskOf(from).rename(from, to),
    chmodSync: (path, mode) => {
      const entry = diskOf(path).get(path);
      if (entry === undefined) throw new DiskError('ENOENT', path);
      if (entry !== 'folder') entry.mode = mode & 0o777;
    },
  };
  ours.lstatSync = ours.statSync!;
  const all: Record<string, (...args: Any[]) => Any> = {};
  for (const [name, make] of Object.entries(ours)) {
    all[name] = (path: Any, ...args: Any[]) =>
      isOurs(path) ? make(path, ...args) : real[name](path, ...args);
  }
  const list = all.readdirSync!;
  all.readdirSync = (path, ...args) => (path === PACKAGES ? [] : list(path, ...args));
  for (const [name, make] of Object.entries(byHandle)) {
    all[name] = (fd: Any, ...args: Any[]) =>
      files.has(fd) ? make(fd, ...args) : real[name](fd, ...args);
  }
  return all;
}

/** What node:fs/promises does, done at once. */
export function filePromises(
  sync: Readonly<Record<string, (...args: Any[]) => Any>>,
): Readonly<Record<string, (...args: Any[]) => Promise<Any>>> {
  const names = [
    ...['readFile', 'writeFile', 'readdir', 'stat', 'lstat', 'mkdir', 'rename', 'rm', 'unlink'],
    ...['access', 'realpath', 'chmod'],
  ];
  const all: Record<string, (...args: Any[]) => Promise<Any>> = {};
  for (const name of names) all[name] = async (...args) => sync[`${name}Sync`]!(...args);
  all.open = async (path, flags, mode) => {
    const fd = sync.openSync!(path, flags, mode);
    return {
      fd,
      stat: async (options: Any) => sync.fstatSync!(fd, options),
      read: async (into: Any, ...rest: Any[]) => {
        const isOptions = !ArrayBuffer.isView(into);
        const buffer = isOptions ? into.buffer : into;
        const bytesRead = isOptions
          ? sync.readSync!(fd, buffer, into)
          : sync.readSync!(fd, buffer, ...rest);
        return { bytesRead, buffer };
      },
      readFile: async (options: Any) => sync.readFileSync!(path, options),
      write: async (bytes: Any, ...rest: Any[]) => ({
        bytesWritten: sync.writeSync!(fd, bytes, ...rest),
        buffer: bytes,
      }),
      sync: async () => sync.fsyncSync!(fd),
      close: async () => sync.closeSync!(fd),
      [Symbol.asyncDispose]: async () => sync.closeSync!(fd),
    };
  };
  return all;
}
