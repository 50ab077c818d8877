/** Functions for Node: bundles in folders too, histories in files, and either onnxruntime. Pages have `host.ts`. */

import { statSync } from "node:fs";
import { mkdir, open, readdir, readFile, realpath, rename, rm, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { checkFile, parse, UNPACK, type OpenOptions } from "./bundle.ts";
import { BundleError, MissingError, PatchError } from "./errors.ts";
import { MANIFEST, MOST_BYTES } from "./manifest.ts";
import { nearKernel } from "./near-kernel.ts";
import type { Runtime } from "./onnxruntime.ts";
import type { HistoryStore } from "./session.ts";
import { oneFile, web, type Source, type Stream } from "./source.ts";

/**
 * Undo the last patch of the bundle in a folder. Only one process may do this at a time.
 *
 * @throws PatchError there is nothing to undo, or a bundle with a smaller rollback index; BundleError the bundle or the one before it is not complete;
 *   SignatureError the bundle before is not signed by a trusted key; MissingError the folder cannot be written.
 */
export async function undo(bundle: string | URL, options: Pick<OpenOptions, "trusted"> = {}): Promise<void> {
  const path = placeOf(String(bundle));
  const source = folder(path);
  if (source.fileBytes) {
    throw new PatchError(UNPACK);
  }
  const now = await source.read(MANIFEST, MOST_BYTES, true);
  const { metadata } = await parse(now);
  const before = (await stat(join(path, PREVIOUS)).catch(() => null))?.isFile() && (await source.read(PREVIOUS, MOST_BYTES, true));
  if (!before || Buffer.compare(before, now) === 0) {
    throw new PatchError(`${path} holds no bundle before this one: no patch was applied, or it was undone`);
  }
  const { ownFiles, metadata: then } = await parse(before, options.trusted);
  if (then.rollbackIndex < metadata.rollbackIndex) {
    throw new PatchError(
      `the bundle before has rollback index ${then.rollbackIndex}, this one has ${metadata.rollbackIndex}; it stays`,
    );
  }
  for (const entry of ownFiles) {
    await checkFile(entry, await source.read(entry.file, entry.bytes, true), true);
  }
  await replacing(path, async () => {
    await rename(join(path, PREVIOUS), join(path, MANIFEST));
    await clean(path, ownFiles.map(({ file }) => file));
  });
}

/** Import onnxruntime-node, or onnxruntime-web if that is not installed. */
export async function importing(): Promise<Runtime> {
  process.env["ORT_DISABLE_TELEMETRY"] = "1"; // onnxruntime reads it when it is imported
  const [native, web] = ["onnxruntime-node", "onnxruntime-web"] as const; // as variables, bundlers do not resolve them
  const found = (await import(native).catch(() => import(web))) as Runtime & { default?: Runtime };
  return found.InferenceSession ? found : found.default!; // one is CommonJS
}

/** Compile the kernel, which lies next to this module, or is a file elsewhere. */
export const compileKernel = async (place: string | URL = nearKernel()) =>
  WebAssembly.compile(await readFile(place));

/** Return the source of a bundle in a folder or a file, or at a URL. */
export function sourceOf(source: string | URL | Source): Source {
  if (typeof source !== "string" && !(source instanceof URL)) {
    return source;
  }
  const text = String(source);
  if (/^https?:/.test(text)) {
    return web(text);
  }
  return folder(placeOf(text));
}

const placeOf = (text: string) => (text.startsWith("file:") ? fileURLToPath(text) : text);

/** Open a file. @throws BundleError if it cannot be opened. */
async function streamOf(path: string): Promise<Stream> {
  const handle = await open(path).catch((error: unknown) => {
    throw new BundleError(`${path} cannot be read (${code(error)}); copy the bundle again`);
  });
  const { size } = await handle.stat();
  let at = 0;
  return {
    async take(most, progress) {
      const content = new Uint8Array(Math.max(0, Math.min(most, size - at)));
      for (let loaded = 0; loaded < content.length; progress?.(loaded)) {
        const { bytesRead } = await handle.read(content, loaded, content.length - loaded, at);
        if (!bytesRead) {
          return content.slice(0, loaded); // somebody truncates the file
        }
        loaded += bytesRead;
        at += bytesRead;
      }
      return content;
    },
    close: () => handle.close(),
  };
}

function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false; // `read` says why
  }
}

/** Return the source of a bundle in a folder, or in one file. */
export function folder(path: string): Source {
  if (isFile(path)) {
    return oneFile(path, () => streamOf(path));
  }
  return {
    async read(file, most) {
      const place = join(path, file);
      try {
        // A link in an untrusted bundle could lead anywhere.
        if ((await realpath(place)) !== join(await realpath(path), file)) {
          throw new BundleError(`${place} is a link; copy the file itself`);
        }
        const info = await stat(place);
        if (!info.isFile()) {
          throw new BundleError(`${place} is no plain file; copy the bundle again`);
        }
        if (info.size > most) {
          throw new BundleError(`${place} has ${info.size} bytes where at most ${most} are expected; copy the bundle again`);
        }
        // A copy with a buffer of its own, which onnxruntime needs.
        return Uint8Array.from(await readFile(place));
      } catch (error) {
        if (error instanceof BundleError) {
          throw error;
        }
        throw new BundleError(`${place} cannot be read (${code(error)}); export the bundle or copy it again`);
      }
    },
    path: (file) => resolve(path, file),
    replace: (files, before, retained) =>
      replacing(path, async () => {
        const last = files.pop()!;
        for (const [file, content] of [...files, [PREVIOUS, before] as const, last]) {
          await whole(join(path, file), content);
        }
        await clean(path, retained);
      }),
  };
}

/** The manifest that a patch replaced. It stays with its files, so that the patch can be undone. */
const PREVIOUS = "manifest.previous.json";

async function replacing(path: string, act: () => Promise<void>): Promise<void> {
  await act().catch((error: unknown) => {
    throw new MissingError(`the bundle in ${path} cannot be replaced (${code(error)}); free space there, or fix its permissions`);
  });
}

/** Remove files of earlier bundles, except the retained ones. */
async function clean(path: string, retained: string[]): Promise<void> {
  for (const file of await readdir(path)) {
    if (OURS.test(file) && !retained.includes(file)) {
      await rm(join(path, file), { force: true });
    }
  }
}

/** Names of bundle files, which remain when the bundle is replaced. */
const OURS = /^(tables|recommend|score|similar|encode|README)-[0-9a-f]{12}\.(bin|onnx|md)(\.part)?$/;

/** Write a file completely or not at all: under a temporary name first. */
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

/** A store for a history in a file that only its owner may read, written completely or not at all. */
export function fileStore(path: string): HistoryStore {
  const fail = (error: unknown): never => {
    throw new MissingError(`the history in ${path} cannot be read or written (${code(error)}); free space there, or fix its permissions`);
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
