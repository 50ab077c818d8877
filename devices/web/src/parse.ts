/** The checks of untrusted JSON. Builds with the kernel, which checks manifests itself, have `parse-lazy.ts` instead. */

import { jsonObject, readManifest } from "./manifest.ts";

export const checks = async () => ({ jsonObject, readManifest });
