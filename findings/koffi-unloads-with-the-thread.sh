#!/bin/sh
# koffi 3.3.4 unloads a shared library when the worker thread that opened it ends, also while the
# process goes on and even where what it opened was never closed or disposed of: the library's
# destructor runs with the end of the thread. A library that has started threads of its own, as
# drivers of GPUs do, is then gone under them. Opened by the main thread it stays until the end of
# the process, and a second dlopen with RTLD_NODELETE keeps it. Needs a C compiler.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent koffi@3.3.4 >/dev/null
cat > tells.c <<'C'
#include <unistd.h>
int answer(void) { return 42; }
__attribute__((destructor)) static void leave(void) {
  ssize_t written = write(1, "unloaded\n", 9);
  (void)written;
}
C
cc -shared -fPIC -o tells.so tells.c
cat > open.mjs <<'JS'
import { writeSync } from 'node:fs';
import { Worker, isMainThread, workerData } from 'node:worker_threads';
import koffi from 'koffi';
const path = new URL('tells.so', import.meta.url).pathname;
if (isMainThread) {
  const keeps = process.argv[2] === 'kept';
  const worker = new Worker(new URL(import.meta.url), { workerData: { keeps } });
  await new Promise((resolve) => worker.once('exit', resolve));
  await new Promise((resolve) => setTimeout(resolve, 200));
  writeSync(1, 'the process goes on\n');
} else {
  if (workerData.keeps) {
    koffi.load(null).func('dlopen', 'void *', ['str', 'int32_t'])(path, 0x2 | 0x1000);
  }
  const answer = koffi.load(path).func('int answer()');
  writeSync(1, `${answer()}\n`);
}
JS
node open.mjs > plain.txt
node open.mjs kept > kept.txt
printf '42\nunloaded\nthe process goes on\n' > plain-wanted.txt
printf '42\nthe process goes on\nunloaded\n' > kept-wanted.txt
echo "koffi $(node -p "JSON.parse(require('fs').readFileSync('node_modules/koffi/package.json', 'utf8')).version"), Node $(node --version)"
echo 'opened in a thread:'; cat plain.txt
echo 'the same, kept by RTLD_NODELETE:'; cat kept.txt
cmp plain.txt plain-wanted.txt
cmp kept.txt kept-wanted.txt
