// What control's API takes and gives: for the gateway, the command line and other programs.

export { OPERATOR_CALLS } from './operator-calls.ts';
export { type Call, type Caller, ErrorDocument, GATEWAY_CALLS } from './routes.ts';
export {
  GatewayReport,
  Quota,
  QuotaShare,
  ReportAnswer,
  RouteKey,
  RoutePool,
  RouteReplica,
  RouteSecret,
  RouteTenant,
  RoutingChange,
  RoutingTable,
} from './routing.ts';
