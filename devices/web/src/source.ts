/** Sources of a bundle's files: a URL here, a folder in Node (`node.ts`), or an app's own. */

import { limits } from "../../../edgerec/runtime/bundle-spec.json";
import { BundleError, firstLine } from "./errors.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** Decode UTF-8. @throws TypeError if the bytes are not UTF-8. */
export const utf8 = (text: Uint8Array) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text);

/**
 * Parse a JSON object from untrusted bytes. Parsed values take far more memory than their text: values are counted
 * first, by their commas and brackets.
 *
 * @throws Error if it is no object, or has more values, levels or members than the specification allows.
 */
export function jsonObject(content: Bytes): Record<string, unknown> {
  let values = 0;
  for (const byte of content) {
    values += +(byte === 44 || byte === 91 || byte === 123);
  }
  let few = values <= limits.json_values;
  const fields = few && JSON.parse(utf8(content));
  let level = [fields];
  for (let n = 0; few && n < limits.json_levels; n++) {
    const members = level.map((value) => [Array.isArray(value), Object.values(value)] as const);
    few = members.every(([list, { length }]) => list || length <= limits.json_members);
    level = members.flatMap(([, values]) => values.filter((value) => Object(value) === value));
  }
  if (!few || level.length > 0 || Object(fields) !== fields) {
    throw new Error("no JSON object, or one of too many parts");
  }
  return fields;
}

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
}

/**
 * The source of a bundle below a URL. Files are cached with the browser's Cache API by their URLs, which change with
 * their content. The manifest is requested each time; without a network, the cached copy is used.
 *
 * @param cache the name of the cache; null for no cache.
 */
export function web(address: string | URL, cache: string | null = "edgerec"): Source {
  const base = new URL(String(address).replace(/\/?$/, "/"), globalThis.location?.href);
  const url = (file: string) => new URL(encodeURIComponent(file), base).href;
  // Pages over plain http have no caches, and a browser may refuse them: then every file is downloaded.
  const store = () => (cache === null ? undefined : globalThis.caches?.open(cache).catch(() => undefined));

  return {
    async read(file, most, fresh, progress) {
      const place = url(file);
      const caching = await store();
      const cached = await caching?.match(place);
      if (cached && !fresh) {
        return bytes(cached);
      }
      try {
        const response = await fetch(place, { cache: fresh ? "no-cache" : "default" });
        if (response.ok) {
          const content = await received(response, most, progress);
          await caching?.put(place, new Response(content)).catch(() => undefined);
          return content;
        }
        throw new Error(`status ${response.status}`);
      } catch (error) {
        if (cached && error instanceof TypeError) {
          return bytes(cached);
        }
        throw new BundleError(`${place} cannot be fetched (${firstLine(error)}); is the address right?`);
      }
    },
    async replace(files) {
      const caching = await store();
      for (const [file, content] of files) {
        await caching?.put(url(file), new Response(content));
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

/** Read the body of a response and report progress. */
async function received(response: Response, most: number, progress?: (loaded: number) => void): Promise<Bytes> {
  const parts: BlobPart[] = [];
  let loaded = 0;
  const reader = response.body!.getReader();
  for (let part; loaded <= most && (part = (await reader.read()).value); ) {
    parts.push(part);
    progress?.((loaded += part.length));
  }
  await reader.cancel();
  return bytes(new Blob(parts));
}

const bytes = async (body: Blob | Response) => new Uint8Array(await body.arrayBuffer());
