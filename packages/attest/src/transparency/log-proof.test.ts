import { describe, expect, test } from 'vitest';
import { type Bytes, utf8 } from '../core/bytes.ts';
import { makeLogProof, makeNoteSigner, type TestSigner } from '../testing/transparency-log.ts';
import { type LogTrust, readLogProof, verifyLogProof } from './log-proof.ts';
import { isSignedByLog, readNoteKey, readSignedNote } from './signed-note.ts';

const SEEN_AT = 1_790_000_000;
const log = await makeNoteSigner('log.example/bundles', 1);
const witnesses = await Promise.all(['a', 'b', 'c'].map((one) => makeNoteSigner(`w.${one}`, 4)));
const entriesOf = (count: number): Bytes[] =>
  Array.from({ length: count }, (_, i) => utf8(`entry ${i}`));

async function trusting(some: readonly TestSigner[], witnessesMin: number): Promise<LogTrust> {
  return {
    log: await readNoteKey(log.vkey),
    witnesses: await Promise.all(some.map(({ vkey }) => readNoteKey(vkey))),
    witnessesMin,
  };
}
const TRUST = await trusting(witnesses, 2);
const verify = (entry: Bytes, proof: string, trust = TRUST) =>
  verifyLogProof(entry, readLogProof(proof), trust);

describe('a proof', () => {
  test('holds for each entry of logs of 1 to 17 entries, and for no other', async () => {
    for (let size = 1; size <= 17; size++) {
      const entries = entriesOf(size);
      for (let index = 0; index < size; index++) {
        const proof = await makeLogProof(entries, index, log, witnesses.slice(0, 2), SEEN_AT);
        expect(await verify(entries[index]!, proof)).toMatchObject({ index, size });
        await expect(verify(utf8('another'), proof)).rejects.toMatchObject({
          code: 'binding-mismatch',
        });
        const moved = proof.replace(`index ${index}\n`, `index ${index + 1}\n`);
        await expect(verify(entries[index]!, moved)).rejects.toMatchObject({
          code: 'binding-mismatch',
        });
      }
    }
  });

  const entries = entriesOf(7);
  const entry = entries[3]!;
  const proofOf = (by: readonly TestSigner[]) => makeLogProof(entries, 3, log, by, SEEN_AT);

  test('says who saw the log, and when', async () => {
    expect(await verify(entry, await proofOf(witnesses))).toEqual({
      origin: 'log.example/bundles',
      index: 3,
      size: 7,
      witnesses: ['w.a', 'w.b', 'w.c'].map((name) => ({ name, seenAtSeconds: SEEN_AT })),
    });
  });

  test('with a hash more or less does not hold', async () => {
    const proof = await proofOf(witnesses);
    const [first] = /^[A-Za-z0-9+/]{43}=\n/m.exec(proof)!;
    for (const changed of [proof.replace(first, ''), proof.replace(first, first + first)]) {
      await expect(verify(entry, changed)).rejects.toMatchObject({ code: 'binding-mismatch' });
    }
  });

  test('needs as many witnesses as are demanded, each a key of its own', async () => {
    const incomplete = { code: 'set-incomplete' };
    await expect(verify(entry, await proofOf(witnesses.slice(0, 1)))).rejects.toMatchObject(
      incomplete,
    );
    const strangers = [await makeNoteSigner('w.a', 4), await makeNoteSigner('w.b', 4)];
    await expect(verify(entry, await proofOf(strangers))).rejects.toMatchObject(incomplete);
    const twice = await trusting([witnesses[0]!, witnesses[0]!], 2);
    await expect(verify(entry, await proofOf(witnesses), twice)).rejects.toMatchObject(incomplete);
    const alone = await trusting([], 0);
    expect(await verify(entry, await proofOf([]), alone)).toMatchObject({ witnesses: [] });
  });

  test('of another log, or not signed by it, is refused', async () => {
    const other = await makeNoteSigner('other.example', 1);
    const foreign = await makeLogProof(entries, 3, other, witnesses, SEEN_AT);
    await expect(verify(entry, foreign)).rejects.toMatchObject({ code: 'identity-mismatch' });
    const impostor = await makeNoteSigner(log.name, 1);
    const forged = await makeLogProof(entries, 3, impostor, witnesses, SEEN_AT);
    await expect(verify(entry, forged)).rejects.toMatchObject({ code: 'signature-invalid' });
  });

  test('whose checkpoint or time was changed is refused', async () => {
    const proof = await proofOf(witnesses);
    const longer = proof.replace('\n7\n', '\n8\n');
    await expect(verify(entry, longer)).rejects.toMatchObject({ code: 'signature-invalid' });
    const lines = proof.split('\n');
    const at = lines.findIndex((line) => line.startsWith('\u2014 w.a '));
    const [dash, name, encoded] = lines[at]!.split(' ') as [string, string, string];
    const bytes = Buffer.from(encoded, 'base64');
    bytes[11]! ^= 1;
    lines[at] = `${dash} ${name} ${bytes.toString('base64')}`;
    await expect(verify(entry, lines.join('\n'))).rejects.toMatchObject({
      code: 'signature-invalid',
    });
  });

  test('takes keys for what they are', async () => {
    const proof = await proofOf(witnesses);
    const { log: logKey } = TRUST;
    const swapped = { log: TRUST.witnesses[0]!, witnesses: [logKey], witnessesMin: 0 };
    await expect(verify(entry, proof, swapped)).rejects.toThrow('not that of a log');
    const wrong = { log: logKey, witnesses: [logKey], witnessesMin: 0 };
    await expect(verify(entry, proof, wrong)).rejects.toThrow('not that of a witness');
  });
});

describe('reading', () => {
  const hash = `${'A'.repeat(43)}=`;
  const note = `o\n1\n${hash}\n\n\u2014 o AAAAAAAA\n`;

  test.each([
    ['c2sp.org/tlog-proof@v2\nindex 0\n\n', 'unsupported-version'],
    ['c2sp.org/tlog-proof@v1\nindex 01\n\n', 'malformed'],
    ['c2sp.org/tlog-proof@v1\n\n', 'malformed'],
    ['c2sp.org/tlog-proof@v1\nextra *\nindex 0\n\n', 'malformed'],
    ['c2sp.org/tlog-proof@v1\nindex 0\nAAAA\n\n', 'malformed'],
    ['c2sp.org/tlog-proof@v1\nindex 99999999999999999999\n\n', 'too-large'],
    [`c2sp.org/tlog-proof@v1\nindex 0\n${`${hash}\n`.repeat(64)}\n`, 'too-large'],
  ])('%j is refused', (head, code) => {
    expect(() => readLogProof(head + note)).toThrow(expect.objectContaining({ code }));
  });

  test('skips extra data, which nobody vouches for', () => {
    expect(readLogProof(`c2sp.org/tlog-proof@v1\nextra AAAA\nindex 0\n\n${note}`).index).toBe(0);
  });

  test.each([
    'o\n1\n',
    `o\n1\n${hash}\n\n- o AAAAAAAA\n`,
    `o\n1\n${hash}\n\n\u2014 o AAAA\n`,
    `o\n1\n${hash}\n\n\u2014 o AAAAAAAA`,
    `o\r\n1\n${hash}\n\n\u2014 o AAAAAAAA\n`,
  ])('%j is no signed note', (text) => {
    expect(() => readSignedNote(text, 'the note')).toThrow('the note');
  });

  test('refuses keys that are none, or whose id is not their own', async () => {
    const { vkey } = log;
    const [name, , key] = vkey.split('+') as [string, string, string];
    for (const text of ['', 'name', `${name}+00000000+${key}`, vkey.replace('log.', 'lag.')]) {
      await expect(readNoteKey(text)).rejects.toMatchObject({ code: 'malformed' });
    }
    await expect(readNoteKey('n+00000000+AgAA')).rejects.toMatchObject({
      code: 'unsupported-algorithm',
    });
  });
});

test('a note that the Go checksum database signed holds, and a changed one does not', async () => {
  const vkey = 'sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8';
  const key = await readNoteKey(vkey);
  expect(key).toMatchObject({ kind: 'log', name: 'sum.golang.org' });
  const signature = [
    'Az3grsLX85Gz+s1SiTbgkuqxgItqFq7gsMUEyVnrsa9LM7Us9S+1xbFI',
    'Gu95949rj4nPRYfvimWEPWL+o3GeoWwOoAw=',
  ].join('');
  const body = 'go.sum database tree\n6476701\nmb8QLQIs0Z0yP5Cstq6guj87oXWeC9gEM8oVikmm9Wk=\n';
  const note = (text: string) =>
    readSignedNote(`${text}\n\u2014 sum.golang.org ${signature}\n`, 'the note');
  expect(await isSignedByLog(note(body), key)).toBe(true);
  await expect(isSignedByLog(note(body.replace('6476701', '6476702')), key)).rejects.toMatchObject({
    code: 'signature-invalid',
  });
  const stranger = readSignedNote('x\n\n\u2014 other AAAAAAAA\n', 'the note');
  expect(await isSignedByLog(stranger, key)).toBe(false);
});
