/**
 * `common.ts` for the kernel in pages: `metadata` and `apply` check manifests, which the kernel does by itself; they are
 * loaded on first use, in a file of their own with errors of its own.
 */

import type * as reading from "./common.ts";
import { BundleError, EdgeRecError, MissingError, PatchError, SignatureError } from "./errors.ts";

export { BundleError, EdgeRecError, MissingError, PatchError, RequestError, SignatureError } from "./errors.ts";
export type { HistoryStore, Session, SessionOptions } from "./session.ts";
export { web, type Bytes, type Progress, type Source } from "./source.ts";
export type { ManifestOptions, OpenOptions } from "./bundle.ts";
export { idHash } from "./coded.ts";
export type { Id } from "./ids.ts";
export type { Metadata } from "./manifest.ts";
export type { Limits, Recommendation, Recommender, RecommendOptions, Subject, Unknown } from "./recommender.ts";
export type { PublicKey } from "./signature.ts";

async function read<T>(act: (module: Pick<typeof reading, "metadata" | "apply">) => Promise<T>): Promise<T> {
  try {
    return await act(await import("./edgerec-reading.mjs"));
  } catch (error) {
    const { name, message } = error as Error;
    const kinds = [BundleError, SignatureError, PatchError, MissingError, EdgeRecError];
    const kind = kinds.find((one) => new one("").name === name);
    throw kind ? new kind(message) : error;
  }
}

export const metadata: typeof reading.metadata = (...words) => read((module) => module.metadata(...words));

export const apply: typeof reading.apply = (...words) => read((module) => module.apply(...words));
