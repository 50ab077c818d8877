/** EdgeRec for pages and workers; `node.ts` adds functions for Node. The differences of the two are in `host.ts`. */

import { graphRows } from "./graph-rows.ts";
import { importing, sourceOf } from "./host.ts";
import { openBundle, type LoadOptions } from "./onnxruntime.ts";
import { recommenderOf, type Recommender } from "./recommender.ts";
import { closing, type Source } from "./source.ts";

export * from "./common.ts";
export type { LoadOptions, Runtime } from "./onnxruntime.ts";

/**
 * Open a bundle. Its files are checked by sha256; a page downloads them into the browser's cache.
 *
 * @param source the bundle's URL, in Node also the path of a folder or file, or the app's own `Source`. A URL whose path
 *   ends in `.edgerec` is one of a bundle in one file.
 * @throws BundleError, SignatureError, MissingError
 */
export async function load(source: string | URL | Source, options: LoadOptions = {}): Promise<Recommender> {
  return closing(sourceOf(source), async (opened) => recommenderOf(graphRows(await openBundle(opened, options, importing))));
}

