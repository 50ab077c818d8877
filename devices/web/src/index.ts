/** EdgeRec in the browser: pages and workers. In Node `node.ts` takes this place. */

import { openBundle, openManifest, type LoadOptions, type Runtime } from "./bundle.ts";
import { describe, type Metadata } from "./metadata.ts";
import { recommenderOf, type Recommender } from "./recommender.ts";
import { web, type Source } from "./source.ts";

export { BundleError, EdgeRecError, MissingError, RequestError, SignatureError } from "./errors.ts";
export type { HistoryStore, Session, SessionOptions } from "./session.ts";
export { web, type Progress, type Source } from "./source.ts";
export type { LoadOptions, Runtime } from "./bundle.ts";
export type { Id } from "./ids.ts";
export type { Metadata } from "./metadata.ts";
export type { Limits, Recommendation, Recommender, Subject } from "./recommender.ts";
export type { PublicKey } from "./signature.ts";

/**
 * Open a bundle: its files are fetched, checked by sha256 and kept in the browser's cache.
 *
 * @param source the bundle's address, or a `Source` of the app's own.
 * @throws BundleError, SignatureError, MissingError
 */
export async function load(source: string | URL | Source, options: LoadOptions = {}): Promise<Recommender> {
  return recommenderOf(await openBundle(sourceOf(source), options, importing));
}

/** What a bundle is, without its tables. @throws BundleError, SignatureError */
export async function metadata(source: string | URL | Source, options: Pick<LoadOptions, "trusted"> = {}): Promise<Metadata> {
  return describe(await openManifest(sourceOf(source), options.trusted));
}

const importing = async () => (await import("onnxruntime-web/wasm")) as Runtime;

function sourceOf(source: string | URL | Source): Source {
  return "read" in Object(source) ? (source as Source) : web(source as URL);
}
