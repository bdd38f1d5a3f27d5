// What reading and writing a log needs, and no more: who holds a host to its log loads neither
// certificates nor XML.

export { type Claim, claim } from './claims/claim.ts';
export { canonicalBytes } from './core/canonical.ts';
export { AttestError } from './core/errors.ts';
export { readCheckpoint, readLogProof, verifyLogProof } from './transparency/log-proof.ts';
export {
  isSignedByLog,
  type NoteKey,
  readNoteKey,
  readSignedNote,
  seenByWitness,
} from './transparency/signed-note.ts';
