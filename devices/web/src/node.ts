/**
 * Recommendations from bundles, in pages, workers and Node. `folder`, `fileStore` and `undo` are for Node alone.
 *
 * @module edgerec
 */

// build.mjs replaces host.ts by host-node.ts.

export * from "./index.ts";
export { fileStore, folder, undo } from "./host-node.ts";
