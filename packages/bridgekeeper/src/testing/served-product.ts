import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { LAUNCHER } from '../launcher.ts';

export const STORYTELLER = fileURLToPath(
  new URL('../../../../models/storyteller', import.meta.url),
);

export interface Served {
  readonly child: ChildProcess;
  readonly url: string;
  readonly log: () => string;
}

/** Starts the product as a user does and waits until it says where it listens. */
export function serve(env: NodeJS.ProcessEnv, ...args: string[]): Promise<Served> {
  return serveWith(LAUNCHER, env, args);
}

/** The same of a program that may be another build's. */
export async function serveWith(
  program: string,
  env: NodeJS.ProcessEnv,
  args: readonly string[],
): Promise<Served> {
  const flags = ['serve', '--port', '0', '--json', '--device', 'cpu', '--log-interval', '1'];
  const child = spawn(process.execPath, [program, ...flags, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env,
  });
  let log = '';
  child.stderr!.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  let out = '';
  for await (const text of child.stdout!.setEncoding('utf8')) {
    out += text;
    if (out.includes('\n')) return { child, url: JSON.parse(out).url, log: () => log };
  }
  throw new Error(`the server ended before it listened: ${log}`);
}

/** Its exit code, after SIGTERM where it still runs. */
export async function stop({ child }: Served): Promise<number | null> {
  if (child.exitCode !== null) return child.exitCode;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  const [code] = await exit;
  return code;
}
