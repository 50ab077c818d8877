/** EdgeRec in pages and workers; `node.ts` adds what Node has. What differs between the two is in `host.ts`. */

import { applyTo, openBundle, openManifest, type LoadOptions } from "./bundle.ts";
import { importing, sourceOf } from "./host.ts";
import type { Metadata } from "./manifest.ts";
import { recommenderOf, type Recommender } from "./recommender.ts";
import type { Bytes, Source } from "./source.ts";

export { BundleError, EdgeRecError, MissingError, PatchError, RequestError, SignatureError } from "./errors.ts";
export type { HistoryStore, Session, SessionOptions } from "./session.ts";
export { web, type Progress, type Source } from "./source.ts";
export type { LoadOptions, Runtime } from "./bundle.ts";
export type { Id } from "./ids.ts";
export type { Metadata } from "./manifest.ts";
export type { Limits, Recommendation, Recommender, Subject } from "./recommender.ts";
export type { PublicKey } from "./signature.ts";

/**
 * Open a bundle. Its files are checked by sha256; a page fetches them and keeps them in the browser's cache.
 *
 * @param source the bundle's address, in Node a folder's path or an address, or a `Source` of the app's own.
 * @throws BundleError, SignatureError, MissingError
 */
export async function load(source: string | URL | Source, options: LoadOptions = {}): Promise<Recommender> {
  return recommenderOf(await openBundle(sourceOf(source), options, importing));
}

/** What a bundle is, without its tables. @throws BundleError, SignatureError */
export async function metadata(source: string | URL | Source, options: Pick<LoadOptions, "trusted"> = {}): Promise<Metadata> {
  return (await openManifest(sourceOf(source), options.trusted)).metadata;
}

/**
 * Make the bundle of a source the one that a patch leads to: what was kept of it, and in Node the folder, by one process
 * at a time (`undo` takes it back). Recommenders that are open answer on from the old one; `load` opens the new one.
 *
 * @param patch the bytes of a file that `edgerec diff` made.
 * @returns whether anything was to be done.
 * @throws PatchError damaged, too new, or for another bundle; BundleError, SignatureError of the old bundle or the new;
 *   MissingError where a folder cannot be written.
 */
export async function apply(
  source: string | URL | Source,
  patch: Bytes,
  options: Pick<LoadOptions, "trusted"> = {},
): Promise<boolean> {
  return applyTo(sourceOf(source), patch, options.trusted);
}
