/** What the modules with onnxruntime and with the kernel share. */

import { applyTo, openManifest, type ManifestOptions, type OpenOptions } from "./bundle.ts";
import { sourceOf } from "./host.ts";
import type { Metadata } from "./manifest.ts";
import { closing, type Bytes, type Source } from "./source.ts";

export { BundleError, EdgeRecError, MissingError, PatchError, RequestError, SignatureError } from "./errors.ts";
export type { HistoryStore, Session, SessionOptions } from "./session.ts";
export { web, type Bytes, type Progress, type Source } from "./source.ts";
export type { ManifestOptions, OpenOptions } from "./bundle.ts";
export { idHash } from "./coded.ts";
export type { Id } from "./ids.ts";
export type { Metadata } from "./manifest.ts";
export type { Limits, Recommendation, Recommender, RecommendOptions, Subject, Unknown } from "./recommender.ts";
export type { PublicKey } from "./signature.ts";

/** Read a bundle's metadata without its tables. @throws BundleError, SignatureError */
export async function metadata(source: string | URL | Source, options: ManifestOptions = {}): Promise<Metadata> {
  return closing(sourceOf(source), async (opened) => (await openManifest(opened, options)).metadata);
}

/**
 * Apply a patch to a bundle: to the copy in the browser's cache, or in Node to the folder (`undo` reverts it). Only one
 * process may do this at a time. Open recommenders continue to use the old bundle; `load` opens the new one.
 *
 * @param patch the bytes of a file that `edgerec diff` wrote.
 * @returns false if the bundle was the patch's target already.
 * @throws PatchError damaged, too new, for another bundle, to one with a smaller rollback index, or for a bundle in one
 *   file; BundleError, SignatureError of the old or the new bundle;
 *   MissingError if a folder cannot be written.
 */
export async function apply(
  source: string | URL | Source,
  patch: Bytes,
  options: Pick<OpenOptions, "trusted"> = {},
): Promise<boolean> {
  return applyTo(sourceOf(source), patch, options.trusted);
}
