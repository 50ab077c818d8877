import { MissingError } from "./errors.ts";
import type { Bytes } from "./source.ts";

/** Return true if checksums can be computed, which is not the case in pages over plain http. */
export const canHash = () => !!globalThis.crypto?.subtle;

/** Return the hexadecimal sha256. @throws MissingError if the platform has no cryptography. */
export async function sha256(content: Bytes): Promise<string> {
  if (!canHash()) {
    throw new MissingError("no checksums can be computed here: serve the page over https");
  }
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
