#!/bin/sh
# node-sqlite3-wasm 0.8.60 never takes back a transaction whose process was killed half-way. SQLite
# rolls a journal back that it finds beside a file, unless some process holds the reserved lock; here
# that question is answered by whether `<name>.lock` exists, and that folder is the asker's own by
# then. So a file that SQLite's own library repairs at the next open is read half-written, even
# where the folder that the killed process left was removed before, as it has to be. Who keeps what
# must last with it has to play the journal back first.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init -y >/dev/null
npm install --silent --ignore-scripts node-sqlite3-wasm@0.8.60 >/dev/null
cat > killed.cjs <<'JS'
const { Database } = require('node-sqlite3-wasm');
const database = new Database('data.db');
database.exec('CREATE TABLE t (n INTEGER, text TEXT)');
database.exec('BEGIN');
for (let n = 0; n < 2000; n++) database.run('INSERT INTO t VALUES (?, ?)', [n, 'a'.repeat(200)]);
database.exec('COMMIT');
// Less than there is to change, so that pages reach the file before the commit.
database.exec('PRAGMA cache_size = 5');
database.exec('BEGIN');
database.exec("UPDATE t SET text = replace(text, 'a', 'b')");
process.kill(process.pid, 'SIGKILL');
JS
cat > read.cjs <<'JS'
const { Database } = require('node-sqlite3-wasm');
const { existsSync } = require('node:fs');
const database = new Database('data.db');
const [{ changed }] = database.all("SELECT count(*) AS changed FROM t WHERE text LIKE 'b%'");
console.log(`rows as they were: ${changed === 0}`);
console.log(`the journal is still there: ${existsSync('data.db-journal')}`);
JS
cat > library.py <<'PY'
import os, sqlite3
database = sqlite3.connect('data.db')
[(changed,)] = database.execute("SELECT count(*) FROM t WHERE text LIKE 'b%'").fetchall()
print(f'rows as they were: {changed == 0}')
print(f'the journal is still there: {os.path.exists("data.db-journal")}')
PY
node killed.cjs 2>/dev/null || true
rm -rf data.db.lock
seen="node-sqlite3-wasm
$(node read.cjs)
SQLite's library
$(rm -rf data.db.lock; python3 library.py)"
wanted="node-sqlite3-wasm
rows as they were: false
the journal is still there: true
SQLite's library
rows as they were: True
the journal is still there: False"
printf '%s\n' "$seen"
[ "$seen" = "$wanted" ] || { echo 'not what was found'; exit 1; }
