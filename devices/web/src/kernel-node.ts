/**
 * EdgeRec with the kernel, for Node: bundles in folders too, and histories in files.
 *
 * @module edgerec/kernel
 */

export * from "./kernel-index.ts";
export { fileStore, folder, undo } from "./host-node.ts";
