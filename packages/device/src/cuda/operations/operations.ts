import type { OpArgs, OpName } from '../../ops.ts';
import type { Launcher } from '../launch/launcher.ts';
import { launchAttention } from './attention.ts';
import {
  launchAddBranch,
  launchFinishLogits,
  launchGateLines,
  launchGateSpan,
  launchNormSpan,
  launchScaleByPosition,
  launchSigmoidGate,
} from './branches.ts';
import { launchLocalGather, launchLocalReduce } from './collectives.ts';
import { launchCausalConv, launchDeltaRule, launchGatedNorm } from './delta-net.ts';
import { launchChecksum, launchHashTree } from './digests.ts';
import { launchExpertDown, launchExpertGate, launchRoute } from './experts.ts';
import { launchJoinInt4Scales, launchOrderInt4Codes } from './int4-order.ts';
import { launchHeadLinear, launchLatentAttention } from './latent.ts';
import {
  launchCopy,
  launchEmbed,
  launchFillUniform,
  launchPool,
  launchSelect,
} from './layer-operations.ts';
import { launchLinear } from './linear-operations.ts';
import { launchGatherPages, launchScatterPages } from './pages.ts';
import { launchPlace } from './place.ts';
import {
  launchAccept,
  launchAdvance,
  launchApplyCommand,
  launchBeginDecode,
  launchDraft,
  launchGrammarMask,
  launchPromptLogprobs,
  launchSample,
} from './row-operations.ts';

type Launch<Name extends OpName> = (launcher: Launcher, args: OpArgs[Name]) => void;

/** The catalogue of ops.ts as kernel launches. */
const LAUNCHES: { readonly [Name in OpName]: Launch<Name> } = {
  'apply-command': launchApplyCommand,
  'begin-decode': launchBeginDecode,
  draft: launchDraft,
  embed: launchEmbed,
  copy: launchCopy,
  'gather-pages': launchGatherPages,
  'scatter-pages': launchScatterPages,
  linear: launchLinear,
  attention: launchAttention,
  'head-linear': launchHeadLinear,
  'latent-attention': launchLatentAttention,
  route: launchRoute,
  'expert-gate': launchExpertGate,
  'expert-down': launchExpertDown,
  'add-branch': launchAddBranch,
  'norm-span': launchNormSpan,
  'scale-by-position': launchScaleByPosition,
  'sigmoid-gate': launchSigmoidGate,
  'gate-lines': launchGateLines,
  'gate-span': launchGateSpan,
  'finish-logits': launchFinishLogits,
  'causal-conv': launchCausalConv,
  'delta-rule': launchDeltaRule,
  'gated-norm': launchGatedNorm,
  'all-reduce': launchLocalReduce,
  'all-gather': launchLocalGather,
  select: launchSelect,
  pool: launchPool,
  'grammar-mask': launchGrammarMask,
  sample: launchSample,
  advance: launchAdvance,
  accept: launchAccept,
  'prompt-logprobs': launchPromptLogprobs,
  'fill-uniform': launchFillUniform,
  place: launchPlace,
  'order-int4-codes': launchOrderInt4Codes,
  'join-int4-scales': launchJoinInt4Scales,
  checksum: launchChecksum,
  'hash-tree': launchHashTree,
};

/**
 * Puts one operation on the launcher's stream. Throws DeviceError `bad-argument` before it launches
 * anything.
 */
export function launchOperation<Name extends OpName>(
  launcher: Launcher,
  name: Name,
  args: OpArgs[Name],
): void {
  LAUNCHES[name](launcher, args);
}
