/** The checks of untrusted JSON for `metadata` and patches, loaded on first use. */

import { BundleError } from "./errors.ts";
import type { Bytes } from "./utf8.ts";

export async function checks() {
  const { jsonObject, readManifest } = await import("./edgerec-manifest.mjs");
  return {
    jsonObject,
    readManifest(content: Bytes) {
      try {
        return readManifest(content);
      } catch (error) {
        throw new BundleError((error as Error).message); // its own class of errors is another one
      }
    },
  };
}
