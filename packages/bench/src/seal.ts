import { flag, SETTINGS, secret } from '@bridgekeeper/server';

const { modelSeal, sealRoot, sealKeyFile, sealKeyCommand } = SETTINGS;

/**
 * How suites that read a model are told of its seal: as `serve` is, but by the command line alone,
 * which a result repeats.
 */
export const SEAL_FLAGS = {
  modelSeal: flag(modelSeal.kind, modelSeal.default, modelSeal.help),
  sealRoot: flag(sealRoot.kind, undefined, sealRoot.help),
  sealKeyFile: flag(sealKeyFile.kind, undefined, sealKeyFile.help),
  // How a key is asked for is nobody else's business.
  sealKeyCommand: flag(secret(sealKeyCommand.kind), undefined, sealKeyCommand.help),
};
