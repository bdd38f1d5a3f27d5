// What metrics are made of, for all that has any in front of a fleet; and those of control.

export { controlAlerts, controlDashboard } from './catalogue.ts';
export { type Alert, alertRules, dashboardOf } from './dashboard.ts';
export type { MetricSpec } from './spec.ts';
