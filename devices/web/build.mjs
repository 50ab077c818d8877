/**
 * Builds what ships in the Python package into edgerec_devices/web/dist, or the folder that is named; with --package
 * the npm package's own files into dist/.
 */

import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const common = {
  absWorkingDir: here,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  external: ["node:*", "onnxruntime-*"],
  legalComments: "none",
};
/** Names that no caller sees. */
const internal = /^(manifest|sections|tensors|tables|popular|others|ownFiles|content|section|blob|opened|row|checkFile|EdgeRecError|PatchError|SignatureError|MissingError)$/;

/** Node's own folders and onnxruntime, for what pages have. */
const nodeHost = {
  name: "host",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/host\.ts$/ }, () => ({ path: join(here, "src/host-node.ts") })),
};

/**
 * The library, for browsers and for Node; what is seldom wanted is in files of its own, loaded when it is. Both share
 * these files, and so the short names of what they hand over.
 */
async function library(outdir) {
  let mangleCache = {};
  for (const [entryPoints, plugins] of [
    [{ edgerec: "src/index.ts" }, []],
    [{ "edgerec-node": "src/node.ts" }, [nodeHost]],
  ]) {
    const options = { ...common, entryPoints, plugins, outdir, splitting: true, chunkNames: "edgerec-[name]" };
    ({ mangleCache } = await build({ ...options, mangleProps: internal, mangleCache }));
  }
}

if (process.argv[2] === "--package") {
  await library(join(here, "dist"));
} else {
  const outdir = process.argv[2] ?? join(here, "../edgerec_devices/web/dist");
  const agent = { page: "bench/worker/page.ts", worker: "bench/worker/worker.ts", node: "bench/node.ts" };
  await library(outdir);
  // Worker and Node share the library, in a file beside them.
  await build({ ...common, entryPoints: agent, outdir, splitting: true, chunkNames: "agent-[name]" });
  const demo = { "demo-page": "demo/page.ts", "demo-worker": "demo/worker.ts", "demo-sw": "demo/sw.ts" };
  // onnxruntime-web is beside the page, as `edgerec devices setup browser` fetched it.
  const beside = {
    name: "beside",
    setup: ({ onResolve }) =>
      onResolve({ filter: /^onnxruntime-web\/wasm$/ }, () => ({ path: "./ort/ort.wasm.min.mjs", external: true })),
  };
  await build({ ...common, entryPoints: demo, outdir, plugins: [beside], external: ["node:*"] });

  // What `edgerec devices setup` fetches is what the lock file names.
  const { packages } = JSON.parse(await readFile(join(here, "package-lock.json"), "utf8"));
  const fetched = ["onnxruntime-web", "onnxruntime-common"].map((name) => {
    const { version, integrity } = packages[`node_modules/${name}`];
    return { name, version, integrity };
  });
  await writeFile(join(outdir, "packages.json"), JSON.stringify(fetched, null, 1) + "\n");
}
