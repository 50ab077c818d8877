/**
 * EdgeRec for Node: bundles in folders too, and histories in files. `build.mjs` replaces `host.ts` by `host-node.ts`.
 *
 * @module edgerec
 */

export * from "./index.ts";
export { fileStore, folder, undo } from "./host-node.ts";
