/** What can be wrong with a model folder. Closed. */
export type ModelErrorCode =
  /** A file the folder must have is not there. */
  | 'missing-file'
  /** A file is there but cannot be read: permissions, a folder in its place, an I/O error. */
  | 'unreadable'
  /** A file is not what its format says: JSON, types, ranges, layout. */
  | 'malformed'
  /** A file ends before its own header says it does, or goes on after it. */
  | 'wrong-size'
  /** Well formed, but something this engine does not implement. */
  | 'unsupported'
  /** Two files contradict each other. */
  | 'inconsistent'
  /** The checkpoint lacks a tensor that the architecture needs. */
  | 'missing-tensor'
  /** A tensor's shape is not what config.json implies. */
  | 'wrong-shape'
  /** A sealed model is asked for, and the folder has no manifest. */
  | 'not-sealed'
  /** The folder is not what was sealed: its files, its manifest, or the root that was expected. */
  | 'seal-mismatch'
  /** A sealed model is encrypted with another key than the one given, or none was given. */
  | 'wrong-key'
  /** Something cannot be written: permissions, no space left, an I/O error. */
  | 'unwritable';

/** The border to a model folder. The message names file and key, and what would be accepted. */
export class ModelError extends Error {
  override readonly name = 'ModelError';
  readonly code: ModelErrorCode;

  constructor(code: ModelErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
