/**
 * Builds the files of the Python package into edgerec_devices/web/dist or a named folder; with --package, the files of
 * the npm package into dist/.
 */

import { copyFile, readFile, writeFile } from "node:fs/promises";
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
  external: ["node:*", "onnxruntime-*", "./edgerec-reading.mjs"],
  legalComments: "none",
};
/** Internal property names, which the build shortens. */
const internal = /^(manifest|sections|tensors|tables|popularItems|others|ownFiles|content|section|blob|opened|row|gone|allowed|checkFile|EdgeRecError|PatchError|SignatureError|MissingError)$/;

/** Replaces a source by another one. */
const replacing = (name, by) => ({
  name,
  setup: ({ onResolve }) => onResolve({ filter: new RegExp(`^\\./${name}\\.ts$`) }, () => ({ path: join(here, `src/${by}.ts`) })),
});
/** Replaces the host of pages by Node's. */
const nodeHost = replacing("host", "host-node");
/** Of the specification, what remains to be checked in addition to the kernel: packed.ts names it in its `Tools`. */
const fewLimits = {
  name: "few limits",
  setup: ({ onLoad }) =>
    onLoad({ filter: /bundle-spec\.json$/ }, async ({ path }) => {
      const spec = JSON.parse(await readFile(path, "utf8"));
      const { major, manifest_bytes, head_bytes } = spec.limits;
      return { contents: JSON.stringify({ ...spec, limits: { major, manifest_bytes, head_bytes } }), loader: "json" };
    }),
};
/** Rarely used parts are the library's files. */
const libraryParts = {
  name: "parts of the library",
  setup: ({ onResolve }) =>
    onResolve({ filter: /^\.\/\w+\.ts$/ }, ({ kind, path }) =>
      kind === "dynamic-import" ? { path: path.replace(/(\w+)\.ts$/, "edgerec-$1.mjs"), external: true } : undefined,
    ),
};
/** The demo's page has the library as a file. */
const libraryFile = {
  name: "library as a file",
  setup: ({ onResolve }) =>
    onResolve({ filter: /\/src\/(kernel-index|session)\.ts$/ }, ({ path }) => {
      const name = path.endsWith("session.ts") ? "session" : "kernel";
      return { path: `./edgerec-${name}.mjs`, external: true };
    }),
};
/** The kernel checks manifests: in pages their check here is loaded for `metadata` and patches alone. */
const byKernel = [replacing("common", "common-lazy"), replacing("json", "json-plain"), fewLimits];

/**
 * Builds the library for browsers and for Node, with onnxruntime and with the kernel, whose WebAssembly is built by
 * build_wasm.py. Rarely used parts are separate files, loaded on demand. All builds share these files, and therefore the
 * shortened property names, which are returned.
 */
async function library(outdir) {
  let mangleCache = {};
  for (const [entryPoints, plugins] of [
    [{ edgerec: "src/index.ts" }, []],
    [{ "edgerec-node": "src/node.ts" }, [nodeHost]],
    [{ "edgerec-reading": "src/common.ts" }, []],
    [{ "edgerec-kernel": "src/kernel-index.ts" }, byKernel],
    [{ "edgerec-kernel-node": "src/kernel-node.ts" }, [nodeHost]],
  ]) {
    const options = { ...common, entryPoints, plugins, outdir, splitting: true, chunkNames: "edgerec-[name]" };
    ({ mangleCache } = await build({ ...options, mangleProps: internal, mangleCache }));
  }
  return mangleCache;
}

if (process.argv[2] === "--package") {
  await library(join(here, "dist"));
  for (const name of ["edgerec-kernel.wasm", "edgerec-kernel-relaxed.wasm"]) {
    await copyFile(join(here, "../edgerec_devices/web/dist", name), join(here, "dist", name));
  }
  await copyFile(join(here, "../../LICENSE"), join(here, "LICENSE")); // npm packs no links
} else {
  const outdir = process.argv[2] ?? join(here, "../edgerec_devices/web/dist");
  const agent = { page: "bench/worker/page.ts", worker: "bench/worker/worker.ts", node: "bench/node.ts" };
  const mangleCache = await library(outdir);
  // Worker and Node share one file, agent-chunk.mjs.
  const sharing = { plugins: [libraryParts], mangleProps: internal, mangleCache };
  await build({ ...common, ...sharing, entryPoints: agent, outdir, splitting: true, chunkNames: "agent-[name]" });
  const demo = { "demo-page": "demo/page.ts", "demo-worker": "demo/worker.ts", "demo-sw": "demo/sw.ts" };
  await build({ ...common, entryPoints: demo, outdir, plugins: [libraryFile] });

  // `edgerec devices setup` downloads the versions of the lock file.
  const { packages } = JSON.parse(await readFile(join(here, "package-lock.json"), "utf8"));
  const fetched = ["onnxruntime-web", "onnxruntime-common"].map((name) => {
    const { version, integrity } = packages[`node_modules/${name}`];
    return { name, version, integrity };
  });
  await writeFile(join(outdir, "packages.json"), JSON.stringify(fetched, null, 1) + "\n");
}
