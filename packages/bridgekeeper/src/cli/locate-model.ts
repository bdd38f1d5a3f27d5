import { type FoundModel, findModel, type ModelSearch } from '@bridgekeeper/server';
import type { CliIo } from '../io.ts';

/** A model that a command was told, its folder or its name in the Hugging Face cache, and where. */
export interface NamedModel {
  readonly model: string;
  readonly downloadDir: ModelSearch['downloadDir'];
  readonly revision: ModelSearch['revision'];
}

/** Throws UsageError. */
export function locateModel(named: NamedModel, { environment }: CliIo): FoundModel {
  const { model, downloadDir, revision } = named;
  return findModel(model, { downloadDir, revision, environment });
}
