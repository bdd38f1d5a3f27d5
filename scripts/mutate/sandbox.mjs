// A copy of the repository in which only compiled code is copied and all else is linked.

import {
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readlinkSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

/**
 * Makes the copy; `root` in what it gives is the copy's root, `temporary` is for its tests, and
 * `switch` is where the module is to be that says which mutant is on.
 */
export function makeSandbox(root) {
  const folder = mkdtempSync(join(tmpdir(), 'bridgekeeper-mutate-'));
  const copy = {
    folder,
    root: join(folder, 'repository'),
    temporary: join(folder, 'tmp'),
    switch: join(folder, 'switch.mjs'),
  };
  mkdirSync(copy.root);
  mkdirSync(copy.temporary);
  linkAll(root, copy.root, ['.git', 'packages', 'node_modules']);
  const shared = resolve(root, '../shared');
  if (existsSync(shared)) symlinkSync(shared, join(folder, 'shared'));
  mkdirSync(join(copy.root, 'packages'));
  for (const name of readdirSync(join(root, 'packages'))) {
    const [from, to] = [join(root, 'packages', name), join(copy.root, 'packages', name)];
    mkdirSync(to);
    linkAll(from, to, ['dist']);
    const dist = join(from, 'dist');
    if (existsSync(dist)) cpSync(dist, join(to, 'dist'), { recursive: true, filter: isRun });
  }
  linkModules(join(root, 'node_modules'), join(copy.root, 'node_modules'));
  return copy;
}

/** What is for compilers and debuggers is most of the files. */
const isRun = (path) => !/\.(?:d\.ts|map)$/.test(path);

function linkAll(from, to, except) {
  for (const name of readdirSync(from)) {
    if (!except.includes(name)) symlinkSync(join(from, name), join(to, name));
  }
}

/** The workspace's own packages are relative links, which lead to the copies when repeated. */
function linkModules(from, to) {
  mkdirSync(to);
  for (const name of readdirSync(from)) {
    const path = join(from, name);
    if (name.startsWith('@')) linkModules(path, join(to, name));
    else if (lstatSync(path).isSymbolicLink()) symlinkSync(readlinkSync(path), join(to, name));
    else symlinkSync(path, join(to, name));
  }
}
