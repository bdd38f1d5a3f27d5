import { type ChildProcess, fork } from 'node:child_process';

export interface Usage {
  readonly cpuSeconds: number;
  readonly residentBytes: number;
}

type ChildMessage =
  | { readonly kind: 'listening'; readonly port: number }
  | { readonly kind: 'usage'; readonly usage: Usage };

/** In the child: says where it listens, and what it has used whenever it is asked. */
export function reportTo(parent: NodeJS.Process, port: number): void {
  const say = (message: ChildMessage) => parent.send?.(message);
  parent.on('message', () => {
    const { user, system } = parent.cpuUsage();
    const usage = { cpuSeconds: (user + system) / 1e6, residentBytes: parent.memoryUsage.rss() };
    say({ kind: 'usage', usage });
  });
  parent.on('disconnect', () => parent.exit(0));
  say({ kind: 'listening', port });
}

/** A process of the suite that listens on a port of this machine. */
export class ListeningChild {
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess, port: number) {
    this.#child = child;
    this.port = port;
  }

  static async start(file: URL, options: object): Promise<ListeningChild> {
    const child = fork(file, [JSON.stringify(options)]);
    const message = await next(child);
    if (message.kind !== 'listening') throw new Error('the process said something else');
    return new ListeningChild(child, message.port);
  }

  async usage(): Promise<Usage> {
    const reply = next(this.#child);
    this.#child.send('usage');
    const message = await reply;
    if (message.kind !== 'usage') throw new Error('the process said something else');
    return message.usage;
  }

  stop(): void {
    // It ends by itself, with its files removed.
    this.#child.disconnect();
  }
}

function next(child: ChildProcess): Promise<ChildMessage> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null) => reject(new Error(`a process ended with code ${code}`));
    child.once('exit', ended);
    child.once('message', (message) => {
      child.off('exit', ended);
      resolve(message as ChildMessage);
    });
  });
}
