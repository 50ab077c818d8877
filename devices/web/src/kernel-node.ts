/**
 * The same from the kernel, without onnxruntime. `folder`, `fileStore` and `undo` are for Node alone.
 *
 * @module edgerec/kernel
 */

export * from "./kernel-index.ts";
export { fileStore, folder, undo } from "./host-node.ts";
