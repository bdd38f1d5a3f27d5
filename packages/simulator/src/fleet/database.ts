import { ControlError } from '@bridgekeeper/control';
import { openSqlite, type Sql, type SqlResult, type SqlValue } from '@bridgekeeper/control/testing';
import type { World } from '../product/world.ts';
import type { Life } from '../world/loop.ts';
import { Random } from '../world/random.ts';

export const DATABASE_HOST = 'db';

/** How long a client waits for an answer, as the product's own connections do. */
const ANSWER_NS = 10e9;
const RESEND_NS = 200e6;
/** What only a leader may change, and how one becomes that. */
const WRITES =
  /^\s*(INSERT INTO|UPDATE|DELETE FROM) (objects|claims|events|audit|operations|blobs)\b/;
const LEADS = /^\s*INSERT INTO lease\b/;
const STATEMENT_NS = { least: 50e3, most: 2e6 };

/** One transaction that is open, or one statement outside of any. */
interface Session {
  readonly life: Life;
  /** Its statements have changed something. */
  writes: boolean;
  isOver: boolean;
  /** When it was last heard of. */
  heardNs: number;
}

/** Told of what a database did, whoever asked for it. */
export interface DatabaseWatch {
  /** A leader is the one that this process named. */
  leads(life: Life): void;
  /** A transaction that has written something, and is kept from now on. */
  committed(life: Life): void;
}

/**
 * A database that several reach over the network, as PostgreSQL is: one transaction that writes at
 * a time, what was committed stays whatever ends, and a client whose connection ends in between
 * does not know. The statements are SQLite's, in memory.
 */
export class Database {
  /** It does not answer. */
  isAway = false;
  /** Called once, when a process has changed something in a transaction that is open. */
  afterStatement: ((life: Life) => void) | null = null;
  readonly #world: World;
  readonly #random: Random;
  readonly #sql = openSqlite(':memory:');
  readonly #idleNs: number;
  readonly #watch: DatabaseWatch;
  /** Whose machine is gone: nothing tells the database so. */
  readonly #silent = new WeakSet<Life>();
  #holder: Session | null = null;
  #waiting: { readonly session: Session; readonly begin: () => void }[] = [];

  /** `idleNs`: a transaction of which nothing is heard for so long is undone. */
  constructor(world: World, idleNs: number, watch: DatabaseWatch) {
    this.#world = world;
    this.#random = new Random(world.seed, 'database');
    this.#idleNs = idleNs;
    this.#watch = watch;
  }

  /** For the simulation's own looks, between two events. */
  get sql(): Sql {
    return this.#sql;
  }

  /** The machine of a process is about to lose its power: its connections stay open. */
  losesTouch(life: Life): void {
    this.#silent.add(life);
  }

  /** Ends at once and is there again: what was committed is kept, and all connections end. */
  restart(): void {
    const { loop } = this.#world;
    for (const { session } of this.#waiting.splice(0)) session.isOver = true;
    if (this.#holder !== null) this.#undo(this.#holder);
    this.isAway = true;
    const backNs = loop.nowNs + this.#random.between(200e6, 5e9);
    loop.at(
      backNs,
      () => {
        this.isAway = false;
      },
      null,
    );
  }

  /** The database as one process of the product has it. */
  of(life: Life): Sql {
    return {
      query: (text, values) =>
        this.#as(life, (session) =>
          this.#call<SqlResult>(session, (answer) => {
            this.#alone(session, () => this.#run(session, text, values, answer, true));
          }),
        ),
      transaction: (work) =>
        this.#as(life, async (session) => {
          await this.#call<void>(session, (answer) => {
            this.#alone(session, () => {
              void this.#sql.query('BEGIN', []).then(() => answer(() => undefined));
            });
          });
          const query = (text: string, values: readonly SqlValue[]) =>
            this.#call<SqlResult>(session, (answer) => {
              this.#run(session, text, values, answer, text === 'COMMIT');
            });
          const result = await work({ query });
          await query('COMMIT', []);
          return result;
        }),
      close: async () => undefined,
    };
  }

  async #as<T>(life: Life, work: (session: Session) => Promise<T>): Promise<T> {
    const { loop } = this.#world;
    const session: Session = { life, writes: false, isOver: false, heardNs: loop.nowNs };
    // Its end is heard of in a moment.
    const left = () => loop.at(loop.nowNs + this.#hopNs(), () => this.#undo(session), null);
    life.onDeath(() => this.#silent.has(life) || left());
    try {
      return await work(session);
    } catch (error) {
      left();
      throw error;
    }
  }

  /** Once no other has the database for itself. */
  #alone(session: Session, begin: () => void): void {
    const begun = () => {
      this.#holder = session;
      session.heardNs = this.#world.loop.nowNs;
      this.#endIfIdle(session);
      begin();
    };
    if (this.#holder === null) begun();
    else this.#waiting.push({ session, begin: begun });
  }

  #run(
    session: Session,
    text: string,
    values: readonly SqlValue[],
    answer: (result: () => SqlResult) => void,
    isLast: boolean,
  ): void {
    session.heardNs = this.#world.loop.nowNs;
    void this.#sql.query(text, values).then(
      (done) => {
        if (WRITES.test(text)) session.writes ||= done.changes > 0;
        if (LEADS.test(text) && done.rows.length > 0) this.#watch.leads(session.life);
        if (isLast) this.#kept(session);
        else if (session.writes) {
          const { afterStatement } = this;
          this.afterStatement = null;
          afterStatement?.(session.life);
        }
        answer(() => done);
      },
      (error: Error) =>
        answer(() => {
          throw error;
        }),
    );
  }

  #kept(session: Session): void {
    session.isOver = true;
    if (session.writes) this.#watch.committed(session.life);
    this.#next(session);
  }

  #undo(session: Session): void {
    if (session.isOver) return;
    session.isOver = true;
    this.#waiting = this.#waiting.filter((each) => each.session !== session);
    if (this.#holder !== session) return;
    void this.#sql.query('ROLLBACK', []).catch(() => undefined);
    this.#next(session);
  }

  #next(session: Session): void {
    if (this.#holder !== session) return;
    this.#holder = null;
    this.#waiting.shift()?.begin();
  }

  /** Nothing is heard of it any more: others wait for what it holds. */
  #endIfIdle(session: Session): void {
    const { loop, judge } = this.#world;
    const idleNs = this.#idleNs;
    loop.at(
      session.heardNs + idleNs,
      () => {
        if (session.isOver) return;
        if (loop.nowNs - session.heardNs < idleNs) this.#endIfIdle(session);
        else {
          judge.note(`${DATABASE_HOST} ends an idle transaction of ${session.life.name}`);
          judge.reached('idle transaction ended');
          this.#undo(session);
        }
      },
      null,
    );
  }

  /** One message there and one back. Throws ControlError 'store-unavailable'. */
  #call<T>(session: Session, act: (answer: (result: () => T) => void) => void): Promise<T> {
    const { life } = session;
    const { loop } = this.#world;
    return new Promise<T>((resolve, reject) => {
      let isAnswered = false;
      const lost = (why: string) => {
        if (isAnswered) return;
        isAnswered = true;
        reject(new ControlError('store-unavailable', `PostgreSQL: ${why}`));
      };
      life.at(loop.nowNs + ANSWER_NS, () => lost('Query read timeout'));
      this.#send(life, null, () => {
        if (session.isOver || this.isAway) {
          session.isOver = true;
          this.#send(life, life, () => lost('Connection terminated unexpectedly'));
          return;
        }
        act((result) => {
          this.#send(life, life, () => {
            if (isAnswered) return;
            isAnswered = true;
            try {
              resolve(result());
            } catch (error) {
              reject(error);
            }
          });
        });
      });
    });
  }

  #send(life: Life, to: Life | null, action: () => void): void {
    const { loop, network } = this.#world;
    const arrive = () => {
      if (network.isCut(life.host, DATABASE_HOST)) loop.at(loop.nowNs + RESEND_NS, arrive, to);
      else action();
    };
    const workNs = to === null ? 0 : this.#random.between(STATEMENT_NS.least, STATEMENT_NS.most);
    loop.at(loop.nowNs + this.#hopNs() + workNs, arrive, to);
  }

  #hopNs(): number {
    const { quality } = this.#world.network;
    let delayNs = this.#random.between(quality.leastNs, quality.mostNs);
    while (this.#random.chance(quality.loss)) delayNs += RESEND_NS;
    return delayNs;
  }
}
