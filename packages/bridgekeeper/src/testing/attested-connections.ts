import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ClientError, ConnectOptions, SealedOptions, Verified } from '@bridgekeeper/client';
import { startTestServer, type TestServer } from '@bridgekeeper/server/testing';
import { startTestTee, type TestTee } from './attested-server.ts';

type Start = Parameters<typeof startTestServer>;

const OFFLINE = { references: null, revocation: null, tokenKeys: null, collateral: null };

/** Real servers that quote the CPU of a test, and connections that were verified by it. */
export class AttestedConnections {
  readonly tee: TestTee;
  readonly #scratch: string;
  readonly #ends: (() => unknown)[] = [];

  private constructor(tee: TestTee, scratch: string) {
    this.tee = tee;
    this.#scratch = scratch;
  }

  static async open(): Promise<AttestedConnections> {
    const scratch = mkdtempSync(join(tmpdir(), 'bridgekeeper-connections-'));
    return new AttestedConnections(await startTestTee(scratch), scratch);
  }

  /** A folder of its own, until all is closed. */
  folder(): string {
    return mkdtempSync(join(this.#scratch, 'of-a-test-'));
  }

  async serve(options: Start[0] = {}, settings: Start[1] = {}): Promise<TestServer> {
    const { machine, serverClock } = this.tee;
    const server = await startTestServer(options, settings, machine, serverClock);
    this.atEnd(() => server.stop(0));
    return server;
  }

  /** Verifies with `connect` what is at `url`, without asking anybody else. */
  async verify(
    connect: (url: string, options: ConnectOptions & SealedOptions) => Promise<Verified>,
    url: string,
    more: Partial<ConnectOptions & SealedOptions> = {},
  ): Promise<Verified> {
    const { policy, anchors, collateral, clock } = this.tee;
    const verified = await connect(url, {
      policy,
      anchors,
      files: [collateral],
      services: () => OFFLINE,
      clock,
      ...more,
    });
    this.atEnd(() => verified.close());
    return verified;
  }

  /** What is to be done when the test ends, before what it stands on ends. */
  atEnd(end: () => unknown): void {
    this.#ends.push(end);
  }

  /** Ends what a test has started. */
  async endTest(): Promise<void> {
    for (const end of this.#ends.splice(0).reverse()) await end();
  }

  close(): void {
    this.tee.close();
    rmSync(this.#scratch, { recursive: true, force: true });
  }
}

/** Asks for a completion over a connection. */
export const complete = ({ fetch, baseUrl }: Verified, body: object, init: RequestInit = {}) =>
  fetch(`${baseUrl}/v1/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...init.headers },
    body: JSON.stringify(body),
    ...(init.signal && { signal: init.signal }),
  });

/** The code of the ClientError with which it fails; `none` where it does not. */
export const codeOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'none',
    (error: ClientError) => error.code,
  );
