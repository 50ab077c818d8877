/** EdgeRec for pages and workers; `node.ts` adds functions for Node. The differences of the two are in `host.ts`. */

import { applyTo, openBundle, openManifest, type LoadOptions, type ManifestOptions } from "./bundle.ts";
import { importing, sourceOf } from "./host.ts";
import type { Metadata } from "./manifest.ts";
import { recommenderOf, type Recommender } from "./recommender.ts";
import type { Bytes, Source } from "./source.ts";

export { BundleError, EdgeRecError, MissingError, PatchError, RequestError, SignatureError } from "./errors.ts";
export type { HistoryStore, Session, SessionOptions } from "./session.ts";
export { web, type Progress, type Source } from "./source.ts";
export type { LoadOptions, Runtime } from "./bundle.ts";
export { idHash } from "./coded.ts";
export type { Id } from "./ids.ts";
export type { Metadata } from "./manifest.ts";
export type { Limits, Recommendation, Recommender, Subject, Unknown } from "./recommender.ts";
export type { PublicKey } from "./signature.ts";

/**
 * Open a bundle. Its files are checked by sha256; a page downloads them into the browser's cache.
 *
 * @param source the bundle's URL, in Node also the path of a folder or file, or the app's own `Source`. A URL whose path
 *   ends in `.edgerec` is one of a bundle in one file.
 * @throws BundleError, SignatureError, MissingError
 */
export async function load(source: string | URL | Source, options: LoadOptions = {}): Promise<Recommender> {
  return closing(sourceOf(source), async (opened) => recommenderOf(await openBundle(opened, options, importing)));
}

/** Read a bundle's metadata without its tables. @throws BundleError, SignatureError */
export async function metadata(source: string | URL | Source, options: ManifestOptions = {}): Promise<Metadata> {
  return closing(sourceOf(source), async (opened) => (await openManifest(opened, options)).metadata);
}

const closing = <T>(source: Source, act: (source: Source) => Promise<T>) => act(source).finally(() => source.close?.());

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
  options: Pick<LoadOptions, "trusted"> = {},
): Promise<boolean> {
  return applyTo(sourceOf(source), patch, options.trusted);
}
