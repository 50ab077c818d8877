/** Signatures of bundles: ed25519 over the manifest's bytes, specified in docs/reference/bundle.md. */

import type { EdgeRecError } from "./errors.ts";
import type { Bytes } from "./source.ts";

interface Tools {
  sha256(content: Bytes): Promise<string>;
  SignatureError: typeof EdgeRecError;
  MissingError: typeof EdgeRecError;
}

/** A public key: the text of a .pub file of `edgerec keys new`, or the 32 raw bytes. */
export type PublicKey = string | Uint8Array;

const SIGNATURE = /^,"signature":\{"key":"([0-9a-f]{64})","value":"([0-9a-f]{128})"\}\}\n$/;
const SIGNATURE_BYTES = 228;
/** Size of the SubjectPublicKeyInfo of ed25519 in a PEM file; its last 32 bytes are the key. */
const DER_BYTES = 44;

/**
 * Check a manifest's signature. Loaded only if keys are given, and therefore without imports of the rest of the library.
 *
 * @throws SignatureError unsigned, signed with another key, or altered later; MissingError if one of the keys is no key,
 *   or the platform has no ed25519.
 */
export async function checkSignature(
  document: Bytes,
  trusted: PublicKey[],
  { sha256, SignatureError, MissingError }: Tools,
): Promise<void> {
  let fault: string | undefined;
  try {
    fault = await signatureFault(document, trusted, sha256);
  } catch (error) {
    throw new MissingError(`signatures cannot be checked: ${(error as Error).message}`);
  }
  if (fault) {
    throw new SignatureError(`manifest.json ${fault}`);
  }
}

async function signatureFault(
  document: Bytes,
  trusted: PublicKey[],
  sha256: (content: Bytes) => Promise<string>,
): Promise<string | undefined> {
  const keys = new Map<string, Bytes>();
  for (const key of trusted.map(rawKey)) {
    keys.set(await sha256(key), key);
  }
  const start = Math.max(0, document.length - SIGNATURE_BYTES);
  const [, fingerprint, value] = SIGNATURE.exec(String.fromCharCode(...document.subarray(start))) ?? [];
  if (!fingerprint) {
    return "is not signed, and only bundles of trusted keys are wanted; export it with --sign KEY";
  }
  const raw = keys.get(fingerprint);
  if (!raw) {
    return `is signed with the key ${fingerprint}, which is none of the ${keys.size} trusted; get the bundle from whom you trust`;
  }
  const key = await crypto.subtle.importKey("raw", raw, "Ed25519", false, ["verify"]);
  const signature = Uint8Array.from(value!.match(/../g)!, (pair) => parseInt(pair, 16));
  const right = await crypto.subtle.verify("Ed25519", key, signature, document.subarray(0, start));
  return right ? undefined : `was altered after it was signed with the key ${fingerprint}; get the bundle again`;
}

function rawKey(key: PublicKey): Bytes {
  let raw: Uint8Array = typeof key === "string" ? new Uint8Array() : key;
  const [, body] = /KEY-----([\s\w+/=]+)-----END/.exec(String(key)) ?? [];
  if (body) {
    const der = Uint8Array.from(atob(body), (letter) => letter.charCodeAt(0));
    raw = der.length === DER_BYTES ? der.subarray(-32) : raw;
  }
  if (raw.length !== 32) {
    throw new RangeError("a trusted key is no ed25519 key; give the text of the .pub file of 'edgerec keys new'");
  }
  return Uint8Array.from(raw);
}
