/**
 * Builds the files of the Python package into edgerec_devices/web/dist or a named folder; with --package, the files of
 * the npm package into dist/.
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
/** Internal property names, which the build shortens. */
const internal = /^(manifest|sections|tensors|tables|popularItems|others|ownFiles|content|section|blob|opened|row|checkFile|EdgeRecError|PatchError|SignatureError|MissingError)$/;

/** Replaces the host of pages by Node's. */
const nodeHost = {
  name: "host",
  setup: ({ onResolve }) => onResolve({ filter: /^\.\/host\.ts$/ }, () => ({ path: join(here, "src/host-node.ts") })),
};

/**
 * Builds the library for browsers and for Node. Rarely used parts are separate files, loaded on demand. Both builds share
 * these files, and therefore the shortened property names.
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
  // Worker and Node share the library in a separate file.
  await build({ ...common, entryPoints: agent, outdir, splitting: true, chunkNames: "agent-[name]" });
  const demo = { "demo-page": "demo/page.ts", "demo-worker": "demo/worker.ts", "demo-sw": "demo/sw.ts" };
  // onnxruntime-web is in the page's folder, as `edgerec devices setup browser` downloaded it.
  const localRuntime = {
    name: "local-runtime",
    setup: ({ onResolve }) =>
      onResolve({ filter: /^onnxruntime-web\/wasm$/ }, () => ({ path: "./ort/ort.wasm.min.mjs", external: true })),
  };
  await build({ ...common, entryPoints: demo, outdir, plugins: [localRuntime], external: ["node:*"] });

  // `edgerec devices setup` downloads the versions of the lock file.
  const { packages } = JSON.parse(await readFile(join(here, "package-lock.json"), "utf8"));
  const fetched = ["onnxruntime-web", "onnxruntime-common"].map((name) => {
    const { version, integrity } = packages[`node_modules/${name}`];
    return { name, version, integrity };
  });
  await writeFile(join(outdir, "packages.json"), JSON.stringify(fetched, null, 1) + "\n");
}
