/** Sources of a bundle's files: a URL here, a folder in Node (`node.ts`), or an app's own. */

import { limits } from "../../../edgerec/runtime/bundle-spec.json";
import { BundleError, firstLine } from "./errors.ts";
import { jsonObject } from "./json.ts";
import type { Parts } from "./packed.ts";
import type { Bytes } from "./utf8.ts";

export { utf8, type Bytes } from "./utf8.ts";

/** Progress of the download of the tables, in bytes. */
export interface Progress {
  loaded: number;
  total: number;
}

export interface Source {
  /**
   * Read a file.
   *
   * @param most maximum number of bytes to read; a longer file may be truncated there, or refused.
   * @param fresh do not use a cached copy.
   * @throws BundleError if there is no such file.
   */
  read(file: string, most: number, fresh: boolean, progress?: (loaded: number) => void): Promise<Bytes>;
  /** Remove cached files of earlier bundles; called with the files of a bundle after it was opened. */
  keepOnly?(files: string[]): Promise<unknown>;
  /**
   * Store the files of a patched bundle, all of them or none; the manifest is the last.
   *
   * @param before the manifest that is replaced.
   * @param retained the files of both bundles; other files of earlier bundles may be removed.
   */
  replace?(files: [file: string, content: Bytes][], before: Bytes, retained: string[]): Promise<unknown>;
  /** Return a path for onnxruntime-node, which then maps the tables from the same folder. */
  path?(file: string): string;
  /** Return the bytes of a bundle in one file, which takes no patch, from those of its tables; after the manifest. */
  fileBytes?(tables: number): Promise<number>;
  /** Release what an error, or reading the manifest alone, left open. */
  close?(): Promise<unknown>;
}

/** Let `act` read from a source, and close it then. */
export const closing = <T>(source: Source, act: (source: Source) => Promise<T>) => act(source).finally(() => source.close?.());

/** An open file, read from its beginning to its end. */
export interface Stream {
  /** Take the next bytes, `most` at most; fewer at the end of the file. */
  take(most: number, progress?: (loaded: number) => void): Promise<Bytes>;
  close(): Promise<unknown>;
}

/**
 * Return the source of a bundle in one file.
 *
 * @param name the file in messages.
 * @param open opens the file, each time that the manifest is read.
 * @param keep is given the file when all of it was read and checked.
 */
export function oneFile(name: string, open: () => Promise<Stream>, keep?: (content: Blob) => Promise<unknown>): Source {
  let stream: Stream | undefined;
  let parts: Promise<Parts>;
  return {
    fileBytes: async (tables) => (await parts).start + tables,
    async read(file, _most, _fresh, progress) {
      if (file === "manifest.json") {
        const { partsOf } = await import("./packed.ts");
        stream = await open();
        parts = partsOf(name, stream, { streamOf, jsonObject, limits, BundleError });
      }
      return (await parts).read(file, progress);
    },
    keepOnly: async () => keep?.((await parts).whole()),
    close: async () => stream?.close(),
  };
}

/**
 * The source of a bundle below a URL, or in one file if the URL's path ends in `.edgerec`. Files are cached with the
 * browser's Cache API by their URLs, which change with their content, but for the manifest's and that of a bundle in one
 * file. These are requested each time; without a network, the cached copy is used.
 *
 * @param cache the name of the cache; null for no cache.
 */
export function web(address: string | URL, cache: string | null = "edgerec"): Source {
  const whole = new URL(address, globalThis.location?.href);
  const base = new URL(String(address).replace(/\/?$/, "/"), globalThis.location?.href);
  const url = (file: string) => new URL(encodeURIComponent(file), base).href;
  // Pages over plain http have no caches, and a browser may refuse them: then every file is downloaded.
  const store = () => (cache === null ? undefined : globalThis.caches?.open(cache).catch(() => undefined));
  const put = async (place: string, content: BlobPart) => (await store())?.put(place, new Response(content as BodyInit));

  /** Fetch a file; use the cached copy if it need not be fresh, and without a network. */
  async function fetched<T>(place: string, fresh: boolean, use: (response: Response, isNew: boolean) => Promise<T>): Promise<T> {
    const cached = await (await store())?.match(place);
    if (cached && !fresh) {
      return use(cached, false);
    }
    try {
      const response = await fetch(place, { cache: fresh ? "no-cache" : "default" });
      if (response.ok) {
        return await use(response, true);
      }
      throw new Error(`status ${response.status}`);
    } catch (error) {
      if (cached && error instanceof TypeError) {
        return use(cached, false);
      }
      throw new BundleError(`${place} cannot be fetched (${firstLine(error)}); is the address right?`);
    }
  }

  if (whole.pathname.endsWith(".edgerec")) {
    let fromNetwork: boolean;
    const open = () =>
      fetched(whole.href, true, async (response, isNew) => {
        fromNetwork = isNew;
        return streamOf(response.body!);
      });
    return oneFile(whole.href, open, async (content) => fromNetwork && put(whole.href, content).catch(() => undefined));
  }
  return {
    read: (file, most, fresh, progress) =>
      fetched(url(file), fresh, async (response, isNew) => {
        if (!isNew) {
          return bytes(response);
        }
        const stream = streamOf(response.body!);
        const content = await stream.take(most + 1, progress);
        await stream.close();
        await put(url(file), content).catch(() => undefined);
        return content;
      }),
    async replace(files) {
      for (const [file, content] of files) {
        await put(url(file), content);
      }
    },
    async keepOnly(files) {
      const wanted = new Set(files.map(url));
      const caching = await store();
      for (const { url: cached } of (await caching?.keys()) ?? []) {
        if (new URL(".", cached).href === base.href && !wanted.has(cached)) {
          await caching!.delete(cached);
        }
      }
    },
  };
}

/** Return the source of a bundle in one file that the app has read. */
export const inMemory = (content: Bytes | ArrayBuffer) =>
  oneFile("the bundle", async () => streamOf(new Response(content).body!));

/** Return the stream of a body. */
function streamOf(body: ReadableStream<Uint8Array>): Stream {
  const reader = body.getReader();
  let rest = new Uint8Array();
  return {
    async take(most, progress) {
      const parts: BlobPart[] = [];
      let loaded = 0;
      while (loaded < most) {
        const part = rest.subarray(0, most - loaded);
        rest = rest.subarray(part.length);
        parts.push(part);
        loaded += part.length;
        progress?.(loaded);
        if (loaded < most) {
          const { value } = await reader.read();
          if (!value) {
            break;
          }
          rest = value as Bytes;
        }
      }
      return bytes(new Blob(parts));
    },
    close: () => reader.cancel(),
  };
}

const bytes = async (body: Blob | Response) => new Uint8Array(await body.arrayBuffer());
