import { type Bytes, equalBytes, fromHex, toHex, utf8 } from '../../core/bytes.ts';
import { parseCertificate, parsePemChain } from '../../core/certificate.ts';
import { appraiseToken, NRAS_ISSUER } from '../../nras/appraise.ts';
import { readDetachedEat } from '../../nras/detached-eat.ts';
import { readTokenKeys } from '../../nras/keys.ts';
import { givenOcspAnswers } from '../../revocation/given.ts';
import { readOcspStatus, writeOcspRequest } from '../../revocation/ocsp.ts';
import { readOcspResponse } from '../../revocation/ocsp-response.ts';
import { verifyEnvelopedSignature } from '../../rim/signature.ts';
import { type Rim, readRim } from '../../rim/swid.ts';
import { readXml } from '../../rim/xml.ts';
import { makeContext } from '../appraisal.ts';
import { makeCertificate, NAME, toPem } from '../certificates.ts';
import { answerOcsp, makeOcspDelegate } from '../ocsp-responder.ts';
import { makeRim, makeRimAuthority } from '../rim-authority.ts';
import { makeTokenService } from '../token-service.ts';
import { WronglyAccepted } from './fuzz.ts';
import { type FuzzTarget, ofText } from './target.ts';

const NONCE = new Uint8Array(32).fill(7);
const NOW_MS = Date.UTC(2026, 5, 1);

async function makeChain() {
  const subject = (name: string) => [[NAME.common, name]] as const;
  const root = await makeCertificate({ subject: subject('root'), issuer: null, isCa: true });
  const leaf = await makeCertificate({ subject: subject('leaf'), issuer: root, curve: 'P-256' });
  return [leaf, root] as const;
}

const CERTIFICATE_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'certificate',
    share: 80,
    reaches: ['core/certificate', 'core/der', 'core/signature'],
    refuses: ['malformed', 'trailing-bytes', 'unsupported-version'],
    prepare: async () => ({
      bases: (await makeChain()).map(({ der }) => der),
      parse: (input) => parseCertificate(input, 'the certificate'),
    }),
  },
  {
    name: 'PEM chain',
    share: 30,
    reaches: ['core/certificate', 'core/bytes'],
    refuses: ['malformed'],
    prepare: async () => ({
      bases: [utf8(toPem(await makeChain()))],
      parse: ofText((pem) => parsePemChain(pem, 4, 'the chain')),
    }),
  },
];

/** What a RIM comes to when devices are compared with it. */
const meaning = ({ product, version, measurements, floors }: Rim) =>
  JSON.stringify([
    product,
    version,
    [...measurements.values()].map(({ index, alternatives }) => [index, alternatives.map(toHex)]),
    floors,
  ]);

async function makeReference() {
  const authority = await makeRimAuthority();
  const base = await makeRim(authority, {
    version: '1',
    measurements: [{ index: 0, alternatives: [new Uint8Array(48).fill(0xab)] }],
    minSvn: 3,
  });
  return { authority, base };
}

const XML = '<?xml version="1.0"?><a xmlns="u:a" xmlns:p="u:p"><p:b c="&#x41;">d&amp;</p:b></a>';

const RIM_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'XML',
    share: 120,
    reaches: ['rim/xml'],
    refuses: ['malformed'],
    prepare: async () => ({ bases: [utf8(XML)], parse: (input) => readXml(input, 'the input') }),
  },
  {
    name: 'RIM',
    share: 10,
    reaches: ['rim/xml', 'rim/swid', 'rim/signature'],
    refuses: ['malformed', 'unsupported-algorithm'],
    prepare: async () => ({
      bases: [(await makeReference()).base],
      parse: (input) => readRim(input, 'the RIM'),
    }),
  },
  {
    name: 'RIM, verified',
    share: 4,
    reaches: ['rim/canonical', 'rim/signature', 'rim/swid'],
    refuses: ['malformed', 'signature-invalid'],
    prepare: async () => {
      const { authority, base } = await makeReference();
      const signer = await parseCertificate(authority.chain[0]!.der, 'the signer');
      const known = meaning(readRim(base, 'the RIM'));
      const parse = async (input: Bytes) => {
        const rim = readRim(input, 'the RIM');
        await verifyEnvelopedSignature(rim.signature, signer);
        if (meaning(rim) !== known) throw new WronglyAccepted('a RIM that says something else');
      };
      return { bases: [base], parse };
    },
  },
];

async function makeRevokedAnswer() {
  const [leaf, ca] = await makeChain();
  const issuer = await parseCertificate(ca.der, 'the CA');
  const certificate = await parseCertificate(leaf.der, 'the leaf');
  const asked = [
    [ca, 'SHA-1'],
    [await makeOcspDelegate(ca), 'SHA-384'],
  ] as const;
  const answers = await Promise.all(
    asked.map(async ([responder, hash]) => {
      const request = await writeOcspRequest(certificate, issuer, NONCE, hash);
      return answerOcsp(responder, request, { status: 'revoked' });
    }),
  );
  return { answers, question: { certificate, issuer, nonce: NONCE, nowMs: NOW_MS } };
}

const OCSP_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'OCSP answer',
    share: 140,
    reaches: ['revocation/ocsp-response', 'core/der'],
    refuses: ['malformed', 'trailing-bytes', 'unsupported-algorithm'],
    prepare: async () => ({
      bases: (await makeRevokedAnswer()).answers,
      parse: readOcspResponse,
    }),
  },
  {
    name: 'OCSP answer, verified',
    share: 4,
    reaches: ['revocation/ocsp'],
    refuses: ['malformed', 'signature-invalid'],
    prepare: async () => {
      const { answers, question } = await makeRevokedAnswer();
      const parse = async (input: Bytes) => {
        const status = await readOcspStatus(input, question);
        if (status !== 'revoked') throw new WronglyAccepted(`"revoked" became "${status}"`);
      };
      return { bases: answers, parse };
    },
  },
  {
    name: 'OCSP answer in a file, verified',
    share: 4,
    reaches: ['revocation/given', 'revocation/ocsp'],
    refuses: ['malformed', 'not-available', 'signature-invalid'],
    prepare: async () => {
      const { answers, question } = await makeRevokedAnswer();
      const { certificate, issuer, nowMs } = question;
      const parse = async (input: Bytes) => {
        const status = await givenOcspAnswers([input], nowMs, null).status(certificate, issuer);
        if (status !== 'revoked') throw new WronglyAccepted(`"revoked" became "${status}"`);
      };
      return { bases: answers, parse };
    },
  },
];

const TOKEN_NONCE = 'ab'.repeat(32);

async function makeToken() {
  const service = await makeTokenService();
  const issuedAt = NOW_MS / 1000;
  const devices = { 'GPU-0': {} };
  return { service, token: await service.issue({ nonce: TOKEN_NONCE, devices, issuedAt }) };
}

const TOKEN_TARGETS: readonly FuzzTarget[] = [
  {
    name: 'token',
    share: 40,
    reaches: ['nras/detached-eat', 'core/json-shape'],
    refuses: ['malformed'],
    prepare: async () => ({ bases: [(await makeToken()).token], parse: readDetachedEat }),
  },
  {
    name: 'token, verified',
    share: 3,
    reaches: ['nras/appraise', 'nras/detached-eat'],
    refuses: ['malformed'],
    prepare: async () => {
      const { service, token } = await makeToken();
      const textsOf = (bytes: Bytes) => {
        const { overall, devices } = readDetachedEat(bytes);
        return utf8(JSON.stringify([overall.text, [...devices].map(([k, v]) => [k, v.text])]));
      };
      const known = textsOf(token);
      const keys = readTokenKeys(service.keys);
      const expected = {
        keys,
        keysFrom: 'service',
        issuer: NRAS_ISSUER,
        deviceCount: 1,
      } as const;
      const nonce = fromHex(TOKEN_NONCE, 'the nonce');
      const context = makeContext({ nowMs: NOW_MS + 1000, nonce });
      const parse = async (input: Bytes) => {
        const claims = await appraiseToken(readDetachedEat(input), expected, context);
        const isAccepted = claims.every(({ status }) => status === 'verified');
        const isSame = equalBytes(textsOf(input), known);
        if (isAccepted && !isSame) throw new WronglyAccepted('a changed token');
      };
      return { bases: [token], parse };
    },
  },
  {
    name: 'key set',
    share: 40,
    reaches: ['nras/keys'],
    refuses: ['malformed'],
    prepare: async () => ({ bases: [(await makeTokenService()).keys], parse: readTokenKeys }),
  },
];

/** Certificates, references, revocation and tokens: what vendors sign for everybody. */
export const SIGNED_TARGETS: readonly FuzzTarget[] = [
  ...CERTIFICATE_TARGETS,
  ...RIM_TARGETS,
  ...OCSP_TARGETS,
  ...TOKEN_TARGETS,
];
