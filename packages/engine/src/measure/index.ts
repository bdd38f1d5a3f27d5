export { type PreparedModel, prepareModel, startEngine } from '../create.ts';
export { decodeWork, floorsNs, prefillWork, type Work } from './floors.ts';
export {
  type HostGrammars,
  type HostMaskTimes,
  measureDeviceMasks,
  measureHostMasks,
} from './masked-decode.ts';
export { measureMasks } from './masks.ts';
export { type DeviceRates, measureRates, runToEnd } from './rates.ts';
export { fitsKv, measureDecode, measurePrefill, type StepTime } from './steps.ts';
