/** EdgeRec in Node: bundles in folders too, and histories in files. */

import { mkdir, open, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { openBundle, openManifest, type LoadOptions, type Runtime } from "./bundle.ts";
import { BundleError, MissingError } from "./errors.ts";
import { describe, type Metadata } from "./metadata.ts";
import { recommenderOf, type Recommender } from "./recommender.ts";
import type { HistoryStore } from "./session.ts";
import { web, type Source } from "./source.ts";

export * from "./index.ts";

/**
 * Open a bundle: in a folder, or behind a URL.
 *
 * @throws BundleError, SignatureError, MissingError
 */
export async function load(source: string | URL | Source, options: LoadOptions = {}): Promise<Recommender> {
  return recommenderOf(await openBundle(sourceOf(source), options, importing));
}

/** What a bundle is, without its tables. @throws BundleError, SignatureError */
export async function metadata(source: string | URL | Source, options: Pick<LoadOptions, "trusted"> = {}): Promise<Metadata> {
  return describe(await openManifest(sourceOf(source), options.trusted));
}

/** onnxruntime-node, or where it is not installed onnxruntime-web. */
async function importing(): Promise<Runtime> {
  process.env["ORT_DISABLE_TELEMETRY"] = "1"; // read when it is imported
  const [native, web] = ["onnxruntime-node", "onnxruntime-web"] as const; // names, that no bundler looks for
  const found = (await import(native).catch(() => import(web))) as Runtime & { default?: Runtime };
  return found.InferenceSession ? found : found.default!; // one is CommonJS
}

function sourceOf(source: string | URL | Source): Source {
  if (typeof source !== "string" && !(source instanceof URL)) {
    return source;
  }
  const text = String(source);
  if (/^https?:/.test(text)) {
    return web(text);
  }
  return folder(text.startsWith("file:") ? fileURLToPath(text) : text);
}

/** The bundle in a folder. */
export function folder(path: string): Source {
  return {
    async read(file, most) {
      const place = join(path, file);
      try {
        const { size } = await stat(place);
        if (size > most) {
          throw new BundleError(`${place} has ${size} bytes where at most ${most} are expected; copy the bundle again`);
        }
        // Its buffer is its own: a view of onnxruntime's.
        return Uint8Array.from(await readFile(place));
      } catch (error) {
        if (error instanceof BundleError) {
          throw error;
        }
        throw new BundleError(`${place} cannot be read (${code(error)}); export the bundle or copy it again`);
      }
    },
    path: (file) => resolve(path, file),
  };
}

/** A history in a file that only its owner may read; written under another name first, so that it is whole. */
export function fileStore(path: string): HistoryStore {
  const fail = (error: unknown): never => {
    throw new MissingError(`the history in ${path} cannot be kept (${code(error)}); free space there, or mend its permissions`);
  };
  return {
    read: () => readFile(path, "utf8").catch((error: unknown) => (code(error) === "ENOENT" ? null : fail(error))),
    async write(text) {
      const part = `${path}.part`;
      try {
        await mkdir(dirname(path), { recursive: true });
        await rm(part, { force: true });
        const handle = await open(part, "wx", 0o600);
        await handle
          .writeFile(text)
          .then(() => handle.sync())
          .finally(() => handle.close());
        await rename(part, path);
      } catch (error) {
        fail(error);
      }
    },
    remove: () => rm(path, { force: true }).catch(fail),
  };
}

function code(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException).code;
}
