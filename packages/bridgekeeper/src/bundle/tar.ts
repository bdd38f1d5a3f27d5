import { Buffer } from 'node:buffer';
import { BundleError } from './errors.ts';

/** A member of an archive: a file, whose bytes are read when its turn comes, or a symbolic link. */
export type TarEntry =
  | {
      readonly path: string;
      readonly bytes: number;
      readonly executable: boolean;
      read(): AsyncIterable<Uint8Array>;
    }
  | { readonly path: string; readonly link: string };

const blockBytes = 512;
const maxFileBytes = 8 ** 11 - 1;

/**
 * Writes entries as a POSIX ustar archive that depends on nothing but the entries: owner 0, time 0,
 * modes 0644 and 0755. Throws `BundleError` for a path or file that ustar cannot hold, and for a
 * file whose length changes while it is packed.
 */
export async function* writeTar(entries: Iterable<TarEntry>): AsyncGenerator<Uint8Array> {
  for (const entry of entries) {
    yield tarHeader(entry);
    if ('link' in entry) continue;
    let written = 0;
    for await (const chunk of entry.read()) {
      written += chunk.length;
      yield chunk;
    }
    if (written !== entry.bytes) {
      throw new BundleError('file-changed', `${entry.path} changed while it was packed; try again`);
    }
    const rest = written % blockBytes;
    if (rest > 0) yield Buffer.alloc(blockBytes - rest);
  }
  yield Buffer.alloc(2 * blockBytes);
}

/** Fields and offsets of IEEE Std 1003.1, pax, "ustar Interchange Format". */
function tarHeader(entry: TarEntry): Buffer {
  const header = Buffer.alloc(blockBytes);
  const isLink = 'link' in entry;
  const bytes = isLink ? 0 : entry.bytes;
  if (bytes > maxFileBytes) {
    throw new BundleError('too-large', `${entry.path} has ${bytes} bytes, more than tar can hold`);
  }
  const { prefix, name } = splitPath(entry.path);
  const octal = (value: number, offset: number, digits: number): void => {
    header.write(value.toString(8).padStart(digits, '0'), offset, 'latin1');
  };
  header.write(name, 0, 'utf8');
  octal(isLink || entry.executable ? 0o755 : 0o644, 100, 7);
  octal(0, 108, 7); // owner
  octal(0, 116, 7); // group
  octal(bytes, 124, 11);
  octal(0, 136, 11); // time of change
  header.write(' '.repeat(8), 148, 'latin1'); // the checksum counts itself as spaces
  header.write(isLink ? '2' : '0', 156, 'latin1');
  if (isLink) {
    requireFit(entry.link, 100, entry.path);
    header.write(entry.link, 157, 'utf8');
  }
  header.write('ustar\x0000', 257, 'latin1');
  octal(0, 329, 7); // device numbers, which only device files use
  octal(0, 337, 7);
  header.write(prefix, 345, 'utf8');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return header;
}

/** Cuts a long path at a slash: at most 155 bytes, then at most 100. */
function splitPath(path: string): { readonly prefix: string; readonly name: string } {
  if (Buffer.byteLength(path) <= 100) return { prefix: '', name: path };
  for (let cut = path.indexOf('/'); cut > 0; cut = path.indexOf('/', cut + 1)) {
    const name = path.slice(cut + 1);
    if (Buffer.byteLength(name) > 100) continue;
    const prefix = path.slice(0, cut);
    requireFit(prefix, 155, path);
    return { prefix, name };
  }
  throw new BundleError('path-too-long', `${path}: its last part is too long for tar`);
}

function requireFit(text: string, maxBytes: number, path: string): void {
  if (Buffer.byteLength(text) <= maxBytes) return;
  throw new BundleError('path-too-long', `${path} is too long for tar: ${text}`);
}
