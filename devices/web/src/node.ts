/** EdgeRec in Node: bundles in folders too, and histories in files. */

import { mkdir, open, readdir, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { applyTo, openBundle, openManifest, type LoadOptions, type Runtime } from "./bundle.ts";
import { BundleError, MissingError } from "./errors.ts";
import type { Metadata } from "./manifest.ts";
import { recommenderOf, type Recommender } from "./recommender.ts";
import type { HistoryStore } from "./session.ts";
import { web, type Bytes, type Source } from "./source.ts";

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
  return (await openManifest(sourceOf(source), options.trusted)).metadata;
}

/**
 * Make the bundle in a folder the one that a patch leads to, as `edgerec apply` does, which can undo it too. One process at a
 * time; recommenders that are open answer on from the old one, and `load` opens the new one.
 *
 * @throws PatchError damaged, too new, or for another bundle; BundleError, SignatureError of the old bundle or the new;
 *   MissingError where the folder cannot be written.
 */
export async function apply(
  source: string | URL | Source,
  patch: Bytes,
  options: Pick<LoadOptions, "trusted"> = {},
): Promise<boolean> {
  return applyTo(sourceOf(source), patch, options.trusted);
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
        // Of a bundle that came from anywhere, a link could lead anywhere.
        if ((await realpath(place)) !== join(await realpath(path), file)) {
          throw new BundleError(`${place} is a link; copy the file itself`);
        }
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
    async replace(files, before, kept) {
      try {
        const last = files.pop()!;
        for (const [file, content] of [...files, ["manifest.previous.json", before] as const, last]) {
          await whole(join(path, file), content);
        }
        for (const file of await readdir(path)) {
          if (OURS.test(file) && !kept.includes(file)) {
            await rm(join(path, file), { force: true });
          }
        }
      } catch (error) {
        throw new MissingError(`the bundle in ${path} cannot be replaced (${code(error)}); free space there, or mend its permissions`);
      }
    },
  };
}

/** Files that bundles leave behind when they are replaced. */
const OURS = /^(tables|recommend|score|similar|encode|README)-[0-9a-f]{12}\.(bin|onnx|md)(\.part)?$/;

/** A file that is whole or not there: on the disk under another name before it takes its own. */
async function whole(place: string, content: string | Uint8Array, mode = 0o666): Promise<void> {
  const part = `${place}.part`;
  await rm(part, { force: true });
  const handle = await open(part, "wx", mode);
  await handle
    .writeFile(content)
    .then(() => handle.sync())
    .finally(() => handle.close());
  await rename(part, place);
}

/** A history in a file that only its owner may read; written under another name first, so that it is whole. */
export function fileStore(path: string): HistoryStore {
  const fail = (error: unknown): never => {
    throw new MissingError(`the history in ${path} cannot be kept (${code(error)}); free space there, or mend its permissions`);
  };
  return {
    read: () => readFile(path, "utf8").catch((error: unknown) => (code(error) === "ENOENT" ? null : fail(error))),
    async write(text) {
      try {
        await mkdir(dirname(path), { recursive: true });
        await whole(path, text, 0o600);
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
