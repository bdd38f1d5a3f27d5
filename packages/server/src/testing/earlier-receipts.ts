import { type ReceiptSigner, sealReceipt } from '@bridgekeeper/attest';
import { makeReceiptFacts } from '@bridgekeeper/attest/testing';
import sqlite from 'node-sqlite3-wasm';

/** Writes a file of receipts as the first version did, with `count` of them but the `missing`. */
export async function writeEarlierReceipts(
  path: string,
  signer: ReceiptSigner,
  { count, missing = [] }: { readonly count: number; readonly missing?: readonly number[] },
): Promise<void> {
  const database = new sqlite.Database(path);
  database.exec(`
    CREATE TABLE receipts (
      sequence INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      tenant TEXT NOT NULL,
      created INTEGER NOT NULL,
      digest TEXT NOT NULL,
      document TEXT NOT NULL
    );
    CREATE INDEX receipts_created ON receipts (created);
    CREATE TABLE chain (sequence INTEGER NOT NULL, hash TEXT);
    PRAGMA application_id = ${0x42_4b_52_31};
    PRAGMA user_version = 1;
  `);
  let head = { sequence: 0, hash: null as string | null };
  for (let n = 1; n <= count; n++) {
    const { signed, digest, head: next } = await sealReceipt(makeReceiptFacts(n), head, signer);
    head = next;
    if (missing.includes(n)) continue;
    const { sequence, id, createdAt } = signed.receipt;
    const row = [sequence, id, 'a', createdAt, digest, JSON.stringify(signed)];
    database.run('INSERT INTO receipts VALUES (?, ?, ?, ?, ?, ?)', row);
  }
  database.run('INSERT INTO chain VALUES (?, ?)', [head.sequence, head.hash]);
  database.close();
}
