import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const DEBIAN = '/usr/lib/postgresql';

/** A PostgreSQL of a test's own, on a socket in a folder of its own. */
export interface TestPostgres {
  readonly url: string;
  /** Ends it at once, as a crash would. */
  readonly stopAtOnce: () => void;
  readonly start: () => void;
  readonly remove: () => void;
}

/** Null where PostgreSQL is not installed. It refuses to run as root, so root becomes postgres. */
export function startPostgres(): TestPostgres | null {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).toSorted() : [];
  const version = versions.at(-1);
  if (version === undefined) return null;
  const programs = join(DEBIAN, version, 'bin');
  const folder = mkdtempSync(join(tmpdir(), 'bk-postgres-'));
  const data = join(folder, 'data');
  const isRoot = process.getuid?.() === 0;
  if (isRoot) execFileSync('chown', ['postgres', folder]);
  const run = (name: string, ...args: string[]): void => {
    const command = [join(programs, name), ...args];
    const words = isRoot ? ['runuser', '-u', 'postgres', '--', ...command] : command;
    const { status, stderr } = spawnSync(words[0]!, words.slice(1), {
      cwd: folder,
      encoding: 'utf8',
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    if (status !== 0) throw new Error(`${name}: ${stderr}`);
  };
  run('initdb', '-D', data, '-A', 'trust', '-U', 'control', '--no-sync', '-E', 'UTF8');
  // What a process had written, its next one finds: it is the machine that does not crash here.
  const options = `-c fsync=off -c listen_addresses= -c unix_socket_directories=${folder}`;
  const start = (): void =>
    run('pg_ctl', '-D', data, '-w', '-o', options, '-l', join(folder, 'log'), 'start');
  const stopAtOnce = (): void => run('pg_ctl', '-D', data, '-w', '-m', 'immediate', 'stop');
  start();
  return {
    url: `postgres://control@/postgres?host=${encodeURIComponent(folder)}`,
    start,
    stopAtOnce,
    remove: () => {
      stopAtOnce();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
