import { FACT_TITLES } from './facts.ts';
import { type Rule, versionText } from './rule.ts';
import { RULE_FAMILIES } from './rules/index.ts';

const INTRODUCTION = `# bridgekeeper doctor

Inspects the machine and an engine's command line, and lists findings by severity, each with what
was seen, what it means, what to do, and who says so. It changes nothing.

\`\`\`
bridgekeeper doctor                                  # this machine and Bridgekeeper's settings
bridgekeeper doctor --pid 4711                       # and a running vLLM, SGLang or TensorRT-LLM
bridgekeeper doctor --assume-cc on --assume-gpu b300 \\
  --engine-version 0.29.0 --engine-command 'vllm serve m -tp 8'   # a plan for another machine
\`\`\`

- \`--engine-command\`: one command: \`vllm serve\`, \`python -m vllm...\`, \`sglang serve\`,
  \`python -m sglang.launch_server\`, \`trtllm-serve\`, also behind \`env\`, \`sudo\`,
  \`docker run\`. Quotes and line continuations as in a POSIX shell; pipes and several commands
  are refused. The file that its \`--config\` (or \`--extra_llm_api_options\`) names is read.
  \`--engine-environment NAME=VALUE\` adds a variable and may be repeated.
- \`--pid\`: reads \`/proc\`: the command, and of the environment only the variables that rules
  look at.
- \`--engine-version\`: rules hold for the versions that their sources name. Without it the version
  comes from the tag of the image or from what is installed beside the process; where nothing says
  it, rules with a version are listed as not checked.
- \`--assume-cc on|off\`, \`--assume-gpu h100|h200|b200|b300\`: the command is for another machine.
  What this one is like is then left out.
- \`--json\`: one document. \`--fail-on info|warning|error|critical\`: exit code 1 for a finding
  at or above it. \`--settings\`: every setting of Bridgekeeper, not only those that are set.

The corrected command has the least changes, in the layout and quoting of the original. What is not
known makes no finding: it is listed as not checked, with the reason. Values of keys, tokens and
passwords are never shown. Exit codes: 0 done, 1 failed (\`--fail-on\`), 2 bad usage.

Severities: **critical**: what leaves the machine is wrong or not protected. **error**: it does not
start, or loses most of its speed. **warning**: it loses some. **info**: good to know.

A source is *measured* (published figures), *documented* (a vendor or maintainer says so) or
*inferred* (by us).

This page is printed by \`bridgekeeper doctor --rules\`; a test holds it to the rules.
`;

/** docs/doctor.md: how to use doctor, and every rule with its sources. */
export function rulesDocument(): string {
  const families = RULE_FAMILIES.map(
    ({ title, rules }) => `\n## ${title}\n${rules.map(ruleSection).join('')}`,
  );
  return INTRODUCTION + families.join('');
}

function ruleSection(rule: Rule): string {
  const { id, severity, title, consequence, remedy, sources, needs } = rule;
  const versions = versionText(rule);
  const from = sources.map(({ name, basis }) => `${name} (*${basis}*)`).join('; ');
  return [
    `\n### ${id}`,
    `**${severity}**: ${title}.${versions === null ? '' : ` Holds for ${versions}.`}\n`,
    `${consequence} **Remedy:** ${remedy}\n`,
    `Looks at ${needs.map((name) => FACT_TITLES[name]).join(', ')}. Source: ${from}.\n`,
  ].join('\n');
}
