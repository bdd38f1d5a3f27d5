/**
 * The tables, in SQL that SQLite and PostgreSQL read alike. A new version of it is a new entry of
 * `MIGRATIONS`; an entry that was released is never changed.
 */
export const MIGRATIONS: readonly (readonly string[])[] = [
  [
    `CREATE TABLE lease (
      name TEXT PRIMARY KEY, holder TEXT NOT NULL, epoch BIGINT NOT NULL,
      expires_ms BIGINT NOT NULL)`,
    `CREATE TABLE objects (
      kind TEXT NOT NULL, id TEXT NOT NULL, version BIGINT NOT NULL, body TEXT NOT NULL,
      PRIMARY KEY (kind, id))`,
    // This key is the exclusivity of GPUs, at any isolation.
    `CREATE TABLE claims (
      host TEXT NOT NULL, module BIGINT NOT NULL, replica TEXT NOT NULL,
      PRIMARY KEY (host, module))`,
    `CREATE TABLE events (
      sequence BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL, kind TEXT NOT NULL, id TEXT NOT NULL,
      version BIGINT NOT NULL, body TEXT)`,
    `CREATE TABLE audit (
      sequence BIGINT PRIMARY KEY, at_ms BIGINT NOT NULL, actor TEXT NOT NULL,
      action TEXT NOT NULL, subject TEXT NOT NULL, detail TEXT NOT NULL)`,
    `CREATE TABLE operations (
      key TEXT PRIMARY KEY, digest TEXT NOT NULL, result TEXT NOT NULL, at_ms BIGINT NOT NULL)`,
    'CREATE TABLE blobs (id TEXT PRIMARY KEY, body TEXT NOT NULL)',
  ],
];
