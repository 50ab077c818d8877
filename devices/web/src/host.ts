/** What pages and workers have: addresses, and onnxruntime-web. A build for Node takes `host-node.ts` instead. */

import type { Runtime } from "./bundle.ts";
import { web, type Source } from "./source.ts";

/** Where a bundle is: behind an address. */
export const sourceOf = (source: string | URL | Source) => ("read" in Object(source) ? (source as Source) : web(source as URL));

/** onnxruntime-web, loaded with the first bundle. */
export const importing = async () => (await import("onnxruntime-web/wasm")) as Runtime;
