/** Builds into edgerec_devices/web/dist, or the folder that is named. */

import { readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const outdir = process.argv[2] ?? join(here, "../edgerec_devices/web/dist");

await build({
  absWorkingDir: here,
  entryPoints: ["src/worker/page.ts", "src/worker/worker.ts", "src/node.ts"].map((path) => ({
    in: path,
    out: path.split("/").at(-1).replace(".ts", ""),
  })),
  outdir,
  outExtension: { ".js": ".mjs" },
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  external: ["node:*"],
  legalComments: "none",
});

// What `edgerec devices setup` fetches is what the lock file names.
const { packages } = JSON.parse(await readFile(join(here, "package-lock.json"), "utf8"));
const fetched = ["onnxruntime-web", "onnxruntime-common"].map((name) => {
  const { version, integrity } = packages[`node_modules/${name}`];
  return { name, version, integrity };
});
await writeFile(join(outdir, "packages.json"), JSON.stringify(fetched, null, 1) + "\n");
