/// <reference lib="dom" />
import './without-eval.ts';
import { type Bytes, fromHex, toHex } from '../core/bytes.ts';
import { AttestError } from '../core/errors.ts';
import type { Policy } from '../policy/policy.ts';
import { readPolicy } from '../policy/read.ts';
import type { GivenFile } from '../verify/documents.ts';
import { BUILT_IN_POLICIES, failureView, judgeInPage, resultView } from './judge.ts';

// The page that verifies: everything runs here, and nothing is asked of anybody but the address
// that the user types.

const NONCE_BYTES = 32;
const REPORT_PATH = '/v1/attestation/report';
const REPORT_BYTES_MAX = 8 * 1024 * 1024;

const element = <T extends HTMLElement>(id: string) => document.getElementById(id) as T;
const form = element<HTMLFormElement>('form');
const files = element<HTMLInputElement>('files');
const address = element<HTMLInputElement>('address');
const policyName = element<HTMLSelectElement>('policy');
const policyFile = element<HTMLInputElement>('policy-file');
const nonce = element<HTMLInputElement>('nonce');
const time = element<HTMLInputElement>('time');
const output = element('output');

/** What was dropped onto the page; it counts like files that were chosen. */
let dropped: readonly File[] = [];

form.addEventListener('submit', (event) => {
  event.preventDefault();
  void show();
});
document.addEventListener('dragover', (event) => event.preventDefault());
document.addEventListener('drop', (event) => {
  event.preventDefault();
  dropped = [...(event.dataTransfer?.files ?? [])];
  void show();
});
files.addEventListener('change', () => {
  dropped = [];
});

async function show(): Promise<void> {
  output.setAttribute('aria-busy', 'true');
  try {
    output.replaceChildren(await verify());
  } catch (error) {
    const isExpected = error instanceof AttestError || error instanceof PageError;
    output.replaceChildren(failureView(isExpected ? error.message : `A fault of ours: ${error}`));
  } finally {
    output.removeAttribute('aria-busy');
  }
}

/** Something that the user can put right. */
class PageError extends Error {
  override readonly name = 'PageError';
}

async function verify(): Promise<HTMLElement> {
  const given = await Promise.all([...(files.files ?? []), ...dropped].map(readFile));
  const url = address.value.trim();
  if (given.length === 0 && url === '') throw new PageError('Choose a file, or give an address.');
  const typed = nonce.value.trim();
  const asked = typed === '' ? null : fromHex(typed, 'the nonce');
  if (asked !== null && asked.length !== NONCE_BYTES) {
    throw new PageError(`The nonce must be ${2 * NONCE_BYTES} hexadecimal digits.`);
  }
  const atMs = time.value === '' ? Date.now() : Date.parse(`${time.value}Z`);
  const wanted = asked ?? (url === '' ? null : crypto.getRandomValues(new Uint8Array(NONCE_BYTES)));
  const report = url === '' ? [] : [await fetchReport(url, wanted!)];
  const all = [...report, ...given];
  const policy = await choosePolicy(url !== '');
  const result = await judgeInPage({ files: all, policy, nonce: wanted, atMs });
  return resultView(result);
}

async function readFile(file: File): Promise<GivenFile> {
  return { name: file.name, bytes: new Uint8Array(await file.arrayBuffer()), isNamed: true };
}

async function choosePolicy(isService: boolean): Promise<Policy> {
  const [file] = policyFile.files ?? [];
  if (file !== undefined) return readPolicy(await file.text(), file.name);
  const name = policyName.value === '' ? (isService ? 'service' : 'evidence') : policyName.value;
  return BUILT_IN_POLICIES.get(name)!;
}

/** Asks a server for its report with our nonce, without cookies and following nobody elsewhere. */
async function fetchReport(text: string, asked: Bytes): Promise<GivenFile> {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new PageError(`${text} is no address: it begins with https://`);
  }
  const path = url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '');
  url.pathname = path.endsWith(REPORT_PATH) ? path : path + REPORT_PATH;
  url.searchParams.set('nonce', toHex(asked));
  const reply = await fetch(url, { credentials: 'omit', redirect: 'error' }).catch(() => {
    const hint = 'it may be down, or not allow this page’s origin (--allowed-origins)';
    throw new PageError(`${url.origin} gives this page no answer: ${hint}.`);
  });
  if (!reply.ok) throw new PageError(`${url.origin} answers with status ${reply.status}.`);
  const bytes = new Uint8Array(await reply.arrayBuffer());
  if (bytes.length > REPORT_BYTES_MAX) throw new PageError(`${url.origin} answers with too much.`);
  return { name: 'the report', bytes, isNamed: true };
}
