export type { DoctorRequest } from './collect/facts.ts';
export { splitAssignment } from './command/engine-command.ts';
export { rulesDocument } from './document.ts';
export { examine, examineAndPlan } from './examine.ts';
export { renderExamination } from './render.ts';
export { type Finding, SEVERITIES, type Severity } from './rule.ts';
export { parseVersion } from './version.ts';
