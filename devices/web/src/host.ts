/** Functions for pages and workers: bundles at URLs, and onnxruntime-web. The build for Node uses `host-node.ts`. */

import { nearKernel } from "./near-kernel.ts";
import type { Runtime } from "./onnxruntime.ts";
import { web, type Source } from "./source.ts";

/** Return the source of a bundle at a URL. */
export const sourceOf = (source: string | URL | Source) => ("read" in Object(source) ? (source as Source) : web(source as URL));

/** Import onnxruntime-web. */
export const importing = async () => (await import("onnxruntime-web/wasm")) as Runtime;

/** Compile the kernel, which lies next to this module. */
export const compileKernel = async (place: string | URL = nearKernel()) =>
  WebAssembly.compile(await (await fetch(place)).arrayBuffer());
