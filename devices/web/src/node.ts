/** EdgeRec in Node: bundles in folders too, and histories in files. `build.mjs` gives it `host-node.ts` for `host.ts`. */

export * from "./index.ts";
export { fileStore, folder, undo } from "./host-node.ts";
