#!/bin/sh
# node-sqlite3-wasm 0.8.60 locks a database by making a folder beside it, `<name>.lock`, not by a
# lock of the system on the file. So a lock goes by the name a process happens to use: while one
# process is in an exclusive transaction, another one that opens the same file through a symbolic
# link gets one as well. (And a process that was killed leaves the folder, and the database locked.)
# Exclusive ownership of a file needs a lock of its own, such as flock(2).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --ignore-scripts node-sqlite3-wasm@0.8.60 >/dev/null
cat > second.cjs <<'JS'
const { Database } = require('node-sqlite3-wasm');
const database = new Database(process.argv[2]);
try {
  database.exec('BEGIN EXCLUSIVE');
  console.log(`${process.argv[2]}: exclusive`);
} catch (error) {
  console.log(`${process.argv[2]}: ${error.message}`);
}
JS
cat > first.cjs <<'JS'
const { Database } = require('node-sqlite3-wasm');
const { execFileSync } = require('node:child_process');
const { existsSync, statSync, symlinkSync } = require('node:fs');
const database = new Database('data.db');
database.exec('CREATE TABLE t (x)');
database.exec('BEGIN EXCLUSIVE');
database.exec('INSERT INTO t VALUES (1)');
console.log(`a folder: ${existsSync('data.db.lock') && statSync('data.db.lock').isDirectory()}`);
symlinkSync('data.db', 'link.db');
for (const name of ['data.db', 'link.db']) {
  process.stdout.write(execFileSync(process.execPath, ['second.cjs', name]));
}
JS
seen=$(node first.cjs)
wanted='a folder: true
data.db: database is locked
link.db: exclusive'
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo 'not what was found'; exit 1; }
