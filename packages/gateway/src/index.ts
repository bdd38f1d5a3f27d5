export type { AffinityMode } from './fleet.ts';
export {
  type ControlRoutes,
  type FileRoutes,
  type GatewayParts,
  type GatewaySettings,
  type RunningGateway,
  startGateway,
} from './start.ts';
export { GatewayError, type GatewayErrorCode } from './table/errors.ts';
