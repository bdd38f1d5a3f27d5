import type { Claim } from '../claims/claim.ts';
import type { Reason } from '../policy/judge.ts';
import type { VerifyResult } from './result.ts';

/** Who made a log, and of what. */
export interface SarifContext {
  readonly version: string;
  /** What was given, as it was given: paths and addresses. */
  readonly inputs: readonly string[];
}

/** Why there is no result. */
export interface SarifFailure {
  readonly exitCode: number;
  readonly code: string;
  readonly message: string;
}

const SCHEMA =
  'https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json';

/**
 * The result as a log of SARIF 2.1.0 for CI: a result for each reason why the whole is refused,
 * one that is suppressed for each refusal that the policy tolerates, and a notification for each
 * input that could not be read. What is verified is no result, as nothing is to be done about it.
 */
export function sarifLog(result: VerifyResult, context: SarifContext): object {
  const { reasons, tolerated } = result.verdict;
  const results = [
    ...reasons.map((reason) => failed(reason, context)),
    ...tolerated.map(({ claim, rule, because }) => ({
      ...failed(toleratedReason(claim, rule), context),
      suppressions: [{ kind: 'external', status: 'accepted', justification: because }],
    })),
  ];
  const invocation = {
    executionSuccessful: result.unreadable.length === 0,
    endTimeUtc: new Date(result.atMs).toISOString(),
    toolExecutionNotifications: result.unreadable.map(notification),
  };
  return log(context, invocation, results);
}

/** A log of a verification that came to no result. */
export function sarifFailureLog(failure: SarifFailure, context: SarifContext): object {
  const invocation = {
    executionSuccessful: false,
    exitCode: failure.exitCode,
    toolExecutionNotifications: [notification(failure)],
  };
  return log(context, invocation, []);
}

function log({ version, inputs }: SarifContext, invocation: object, results: readonly Failed[]) {
  const ids = [...new Set(results.map(({ ruleId }) => ruleId))];
  const driver = {
    name: 'bridgekeeper verify',
    version,
    rules: ids.map((id) => ({ id })),
  };
  const artifacts = inputs.map((input) => ({ location: { uri: uriOf(input) } }));
  return {
    $schema: SCHEMA,
    version: '2.1.0',
    runs: [{ tool: { driver }, invocations: [invocation], artifacts, results }],
  };
}

type Failed = ReturnType<typeof failed>;

function failed({ kind, subject, text, code, rule }: Reason, { inputs }: SarifContext) {
  // Which of several inputs a subject is from is not kept: the first one stands for all.
  const [first] = inputs;
  return {
    ruleId: kind === 'any' ? rule : kind,
    kind: 'fail',
    level: 'error',
    message: { text: `${subject}: ${text}` },
    locations: [
      {
        ...(first !== undefined && {
          physicalLocation: { artifactLocation: { uri: uriOf(first), index: 0 } },
        }),
        logicalLocations: [{ fullyQualifiedName: subject }],
      },
    ],
    properties: { rule, ...(code && { code }) },
  };
}

function toleratedReason(claim: Claim, rule: string): Reason {
  const { subject, kind, statement: text, code } = claim;
  return { rule, subject, kind, text, ...(code && { code }) };
}

function notification({ code, message }: { readonly code: string; readonly message: string }) {
  return { level: 'error', descriptor: { id: code }, message: { text: message } };
}

/** An address as it is; of a path its parts, as spaces and the like are not those of a URI. */
function uriOf(input: string): string {
  if (/^https?:\/\//i.test(input)) return encodeURI(input);
  return input.split('/').map(encodeURIComponent).join('/');
}
