/** A bundle in one file, specified in docs/reference/bundle.md. Loaded when the first one is opened. */

import type { limits as specified } from "../../../edgerec/runtime/bundle-spec.json";
import type { EdgeRecError } from "./errors.ts";
import type { FileEntry } from "./manifest.ts";
import type { Bytes, Stream } from "./source.ts";

/** Functions of the library, passed in because this file is loaded separately. */
export interface Tools {
  streamOf(body: ReadableStream<Uint8Array>): Stream;
  jsonObject(content: Bytes): Record<string, unknown>;
  limits: Pick<typeof specified, "major" | "manifest_bytes" | "head_bytes">;
  BundleError: typeof EdgeRecError;
}

/** The files inside a file. */
export interface Parts {
  /** Offset of the tables. */
  start: number;
  /** Return the manifest; after it was checked, the other files too. */
  read(file: string, progress?: (loaded: number) => void): Promise<Bytes>;
  /** Return the whole file; after the tables were read. */
  whole(): Blob;
}

/** Fields of a manifest. The build shortens some property names; those are quoted where they are of this format. */
interface Fields {
  tables: FileEntry;
  graphs: Record<string, FileEntry>;
  other_files: FileEntry[];
}

const START = 24;
const ALIGNED = 64;

/** Read a file up to its tables. @throws BundleError if it is no bundle in one file, damaged, or of a newer major version. */
export async function partsOf(name: string, stream: Stream, tools: Tools): Promise<Parts> {
  const { limits, BundleError } = tools;
  function need(holds: unknown, fault: string): void {
    if (!holds) {
      throw new BundleError(`${name} ${fault}`);
    }
  }
  const damaged = "is damaged (its parts have other lengths than it says); copy it again";
  const taken: Bytes[] = [];
  async function most(count: number, progress?: (loaded: number) => void): Promise<Bytes> {
    const content = await stream.take(count, progress).catch((error: Error) => {
      throw new BundleError(`${name} cannot be read (${error.message}); copy it again`);
    });
    taken.push(content);
    return content;
  }
  async function take(count: number, progress?: (loaded: number) => void): Promise<Bytes> {
    const content = await most(count, progress);
    need(content.length === count, damaged);
    return content;
  }

  const start = await most(START);
  need(String.fromCharCode(...start.subarray(0, 8)) === "edgerecB", "is no bundle in one file: give a bundle's folder, or a file of 'edgerec pack'");
  need(start.length === START, damaged);
  const view = new DataView(start.buffer);
  const [major, minor] = [view.getUint16(8, true), view.getUint16(10, true)];
  need(major === limits.major, `has version ${major}.${minor}, this reader knows ${limits.major}.x; update edgerec`);
  const [stored, length, own] = [12, 16, 20].map((at) => view.getUint32(at, true)) as [number, number, number];
  need(length <= limits.head_bytes, `has a head of more than ${limits.head_bytes} bytes; pack it again`);
  need(own <= length && stored <= length && own <= limits.manifest_bytes, damaged);
  const deflated = await take(stored);
  const head = stored === length ? deflated : await inflated(deflated, length, tools.streamOf);
  need(head, damaged);
  const manifest = head!.slice(0, own);
  let files: Map<string, Bytes> | undefined;
  let content: Promise<Bytes> | undefined;

  /** Return the rest of the head, by the sizes of the manifest. */
  function unpacked({ graphs, other_files }: Fields): Map<string, Bytes> {
    const entries = [...Object.values(graphs), ...other_files].sort((one, other) => (one.file < other.file ? -1 : 1));
    let at = own;
    const found = new Map(entries.map(({ file, bytes }) => [file, head!.slice(at, (at += bytes))]));
    need(at === length, damaged);
    return found;
  }

  const end = Math.ceil((START + stored) / ALIGNED) * ALIGNED;
  async function tables(count: number, progress?: (loaded: number) => void): Promise<Bytes> {
    await take(end - START - stored);
    const found = await take(count, progress);
    need((await most(1)).length === 0, damaged);
    await stream.close();
    return found;
  }

  return {
    start: end,
    async read(file, progress) {
      if (file === "manifest.json") {
        return manifest;
      }
      const fields = tools.jsonObject(manifest) as unknown as Fields;
      files ??= unpacked(fields);
      return files.get(file) ?? (content ??= tables(fields["tables"].bytes, progress));
    },
    whole: () => new Blob(taken),
  };
}

/** Inflate a head; null if it has another length than promised. */
async function inflated(deflated: Bytes, length: number, streamOf: Tools["streamOf"]): Promise<Bytes | null> {
  const taken = async (part: Bytes) => {
    const stream = streamOf(new Blob([part]).stream().pipeThrough(new DecompressionStream("deflate")));
    try {
      return await stream.take(length + 1);
    } catch {
      return null; // truncated, or no zlib
    } finally {
      await stream.close().catch(() => undefined);
    }
  };
  const found = await taken(deflated);
  // Some platforms ignore bytes after a stream. If there are none, a stream without its last byte is truncated.
  return found?.length === length && !(await taken(deflated.subarray(0, -1))) ? found : null;
}
