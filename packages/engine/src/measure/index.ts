export { type PreparedModel, prepareModel } from '../create.ts';
export { decodeWork, floorsNs, prefillWork, type Work } from './floors.ts';
export { type DeviceRates, measureRates, runToEnd } from './rates.ts';
export { fitsKv, measureDecode, measurePrefill, type StepTime } from './steps.ts';
