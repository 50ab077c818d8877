/** EdgeRec with the kernel instead of onnxruntime, for pages, workers and edge workers; `kernel-node.ts` is for Node. */

import { compileKernel, sourceOf } from "./host.ts";
import { openKernel, type LoadOptions } from "./kernel.ts";
import { recommenderOf, type Recommender } from "./recommender.ts";
import { closing, inMemory, type Bytes, type Source } from "./source.ts";

export * from "./common.ts";
export type { LoadOptions } from "./kernel.ts";

/**
 * Open a bundle, as `load` of "edgerec" does, without onnxruntime.
 *
 * @param source the bundle's URL, in Node also the path of a folder or file, or the app's own `Source`. A URL whose path
 *   ends in `.edgerec` is one of a bundle in one file. Or the content of one file, which an edge worker imports.
 * @throws BundleError, SignatureError, MissingError
 */
export async function load(
  source: string | URL | Source | Bytes | ArrayBuffer,
  options: LoadOptions = {},
): Promise<Recommender> {
  const place = source instanceof ArrayBuffer || ArrayBuffer.isView(source) ? inMemory(source) : sourceOf(source);
  return closing(place, async (opened) => recommenderOf(await openKernel(opened, options, compileKernel)));
}
