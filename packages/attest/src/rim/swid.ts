import { type Bytes, fromHex } from '../core/bytes.ts';
import { demand } from '../core/errors.ts';
import { type EnvelopedSignature, readEnvelopedSignature } from './signature.ts';
import { attributeOf, elementsOf, readXml, type XmlElement } from './xml.ts';

const SWID = 'http://standards.iso.org/iso/19770/-2/2015/schema.xsd';
const SHA384 = 'http://www.w3.org/2001/04/xmlenc#sha384';
const OPAQUE_DATA = 'https://docs.nvidia.com/attestation/specs/latest/opaque-data.html';
const DIGEST_BYTES = 48;
/** Indices below it are of measurements, which are hashed; from it on they are of other values. */
const MEASUREMENT_COUNT_MAX = 64;
const INDEX_MAX = 0xff_ff;
const ALTERNATIVE_COUNT_MAX = 16;

/** What a measurement must be: one of these digests (SHA-384). */
export interface GoldenMeasurement {
  readonly index: number;
  readonly name: string;
  readonly alternatives: readonly Bytes[];
}

/** The least security version that is accepted. */
export interface SvnFloor {
  readonly index: number;
  readonly name: string;
  readonly minimum: number;
}

/** A Reference Integrity Manifest, whether or not its signature holds. Plain data. */
export interface Rim {
  /** Like `GH100`. */
  readonly product: string;
  /** Of the driver or firmware that it describes, upper case. */
  readonly version: string;
  /** By index; measurements that are not active are left out. */
  readonly measurements: ReadonlyMap<number, GoldenMeasurement>;
  readonly floors: readonly SvnFloor[];
  readonly signature: EnvelopedSignature;
}

/**
 * Reads a RIM as NVIDIA signs it: a SWID tag in the TCG's profile. What the payload holds and this
 * reader does not understand is an error, because it might be a demand. Throws AttestError
 * 'malformed', 'trailing-bytes', 'too-large' or 'unsupported-algorithm'; `what` is for messages.
 */
export function readRim(bytes: Bytes, what: string): Rim {
  const document = readXml(bytes, what);
  const isTag = document.namespace === SWID && document.local === 'SoftwareIdentity';
  demand(isTag, 'malformed', `${what} is ${document.name}, not a SWID tag`);
  const children = elementsOf(document, what);
  const meta = only(children, 'Meta', what);
  const resources = elementsOf(only(children, 'Payload', what), what);
  const isKnown = resources.every((one) => one.namespace === SWID && one.local === 'Resource');
  demand(isKnown, 'malformed', `${what} holds something other than resources in its payload`);
  const floors = resources.filter(isFloor);
  const golden = resources.filter((resource) => !isFloor(resource));
  const indices = resources.map((resource) => indexOf(resource, what));
  demand(new Set(indices).size === indices.length, 'malformed', `${what} has an index twice`);
  const measurements = golden.map((resource) => readMeasurement(resource, what));
  return {
    product: required(meta, '', 'product', what),
    version: required(meta, '', 'colloquialVersion', what).toUpperCase(),
    measurements: new Map(
      measurements.filter((one) => one.isActive).map((one) => [one.index, one.golden]),
    ),
    floors: floors.filter((one) => isActive(one, what)).map((one) => readFloor(one, what)),
    signature: readEnvelopedSignature(document, what),
  };
}

function only(children: readonly XmlElement[], local: string, what: string): XmlElement {
  const found = children.filter((child) => child.local === local && child.namespace === SWID);
  demand(found.length === 1, 'malformed', `${what} has ${found.length} elements ${local}, not one`);
  return found[0]!;
}

function isFloor(resource: XmlElement): boolean {
  return attributeOf(resource, OPAQUE_DATA, 'MIN_SVN') !== null;
}

function readFloor(resource: XmlElement, what: string): SvnFloor {
  const index = indexOf(resource, what);
  const isInRange = index >= MEASUREMENT_COUNT_MAX;
  demand(isInRange, 'malformed', `${what} has a version floor at index ${index}, a measurement's`);
  const minimum = decimal(required(resource, OPAQUE_DATA, 'MIN_SVN', what), 0xff_ff_ff_ff, what);
  return { index, name: required(resource, '', 'name', what), minimum };
}

function readMeasurement(resource: XmlElement, what: string) {
  const index = indexOf(resource, what);
  const where = `measurement ${index} of ${what}`;
  const isMeasurement = attributeOf(resource, '', 'type') === 'Measurement';
  demand(isMeasurement, 'malformed', `${where} is of another type`);
  const isInRange = index < MEASUREMENT_COUNT_MAX;
  demand(isInRange, 'malformed', `${where}: there are only ${MEASUREMENT_COUNT_MAX}`);
  const count = decimal(required(resource, '', 'alternatives', what), ALTERNATIVE_COUNT_MAX, where);
  const hashes = resource.attributes.filter((one) => one.namespace === SHA384);
  const isWhole = count > 0 && hashes.length === count;
  demand(isWhole, 'malformed', `${where} has ${hashes.length} digests and announces ${count}`);
  const size = decimal(required(resource, '', 'size', what), DIGEST_BYTES, where);
  const alternatives = hashes.map((_, i) => {
    const digest = fromHex(required(resource, SHA384, `Hash${i}`, what), where);
    const isSized = digest.length === DIGEST_BYTES && size === DIGEST_BYTES;
    demand(isSized, 'malformed', `${where} has a digest of ${digest.length} bytes, not 48`);
    return digest;
  });
  const golden: GoldenMeasurement = {
    index,
    name: required(resource, '', 'name', what),
    alternatives,
  };
  return { index, isActive: isActive(resource, what), golden };
}

function indexOf(resource: XmlElement, what: string): number {
  return decimal(required(resource, '', 'index', what), INDEX_MAX, what);
}

function isActive(resource: XmlElement, what: string): boolean {
  const active = required(resource, '', 'active', what);
  demand(active === 'True' || active === 'False', 'malformed', `${what}: active is neither`);
  return active === 'True';
}

function required(element: XmlElement, namespace: string, local: string, what: string): string {
  const value = attributeOf(element, namespace, local);
  demand(value !== null, 'malformed', `${element.name} of ${what} lacks the attribute ${local}`);
  return value;
}

function decimal(text: string, max: number, what: string): number {
  const value = /^(0|[1-9]\d{0,9})$/.test(text) ? Number(text) : Number.NaN;
  demand(value <= max, 'malformed', `${what} holds a number that is none or over ${max}`);
  return value;
}
