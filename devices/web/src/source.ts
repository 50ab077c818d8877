/** Where the files of a bundle lie: behind a URL here, in a folder in Node (`node.ts`), or wherever an app keeps them. */

import { limits } from "../../../edgerec/runtime/bundle-spec.json";
import { BundleError, firstLine } from "./errors.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** @throws TypeError where it is none. */
export const utf8 = (text: Uint8Array) => new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(text);

/**
 * The JSON object in bytes from anywhere. A value of two bytes takes many more when it is parsed, so that values are
 * counted before, by the commas and brackets that they need.
 *
 * @throws Error where it is none, or one of more values, levels or members than the specification allows.
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

/** How much of the tables has arrived. */
export interface Progress {
  loaded: number;
  total: number;
}

export interface Source {
  /**
   * The content of a file.
   *
   * @param most no more bytes are read; a file that has more may be cut there, or refused.
   * @param fresh what was kept of it is not good enough.
   * @throws BundleError where there is none.
   */
  read(file: string, most: number, fresh: boolean, progress?: (loaded: number) => void): Promise<Bytes>;
  /** Told when a bundle is open: whatever else is kept of earlier ones may go. */
  keepOnly?(files: string[]): Promise<unknown>;
  /**
   * Bring the files of a patched bundle into effect, all of them or none: the manifest is the last.
   *
   * @param before the manifest that is replaced.
   * @param kept the files of both bundles; whatever else is kept of earlier ones may go.
   */
  replace?(files: [file: string, content: Bytes][], before: Bytes, kept: string[]): Promise<unknown>;
  /** Where onnxruntime-node itself can open a file, so that it maps the tables beside it. */
  path?(file: string): string;
}

/**
 * The bundle below a URL. Its files are kept in the browser's Cache API by their addresses, which change with their
 * content; the manifest is asked for each time, and what was kept serves where there is no network.
 *
 * @param cache the name of the cache; null to keep nothing.
 */
export function web(address: string | URL, cache: string | null = "edgerec"): Source {
  const base = new URL(String(address).replace(/\/?$/, "/"), globalThis.location?.href);
  const url = (file: string) => new URL(encodeURIComponent(file), base).href;
  // Pages of plain http have no caches, and a browser may refuse them: then all is fetched.
  const store = () => (cache === null ? undefined : globalThis.caches?.open(cache).catch(() => undefined));

  return {
    async read(file, most, fresh, progress) {
      const place = url(file);
      const keeping = await store();
      const kept = await keeping?.match(place);
      if (kept && !fresh) {
        return bytes(kept);
      }
      try {
        const response = await fetch(place, { cache: fresh ? "no-cache" : "default" });
        if (response.ok) {
          const content = await received(response, most, progress);
          await keeping?.put(place, new Response(content)).catch(() => undefined);
          return content;
        }
        throw new Error(`status ${response.status}`);
      } catch (error) {
        if (kept && error instanceof TypeError) {
          return bytes(kept);
        }
        throw new BundleError(`${place} cannot be fetched (${firstLine(error)}); is the address right?`);
      }
    },
    async replace(files) {
      const keeping = await store();
      for (const [file, content] of files) {
        await keeping?.put(url(file), new Response(content));
      }
    },
    async keepOnly(files) {
      const wanted = new Set(files.map(url));
      const keeping = await store();
      for (const { url: kept } of (await keeping?.keys()) ?? []) {
        if (new URL(".", kept).href === base.href && !wanted.has(kept)) {
          await keeping!.delete(kept);
        }
      }
    },
  };
}

/** The body of a response, its parts counted as they come. */
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
