/** An open bundle: its files are checked here; `onnxruntime.ts` answers from them. */

import { limits } from "../../../edgerec/runtime/bundle-spec.json";
import { BundleError, EdgeRecError, MissingError, PatchError, SignatureError } from "./errors.ts";
import { jsonObject } from "./json.ts";
import { MANIFEST, MOST_BYTES, readManifest, type FileEntry, type Graph, type Manifest } from "./manifest.ts";
import { canHash, sha256 } from "./sha256.ts";
import type { PublicKey } from "./signature.ts";
import { type Bytes, type Progress, type Source } from "./source.ts";

export interface OpenOptions {
  /** Compare the sha256 of the tables; true by default. Sizes and the sha256 of graphs are always compared if possible. */
  verify?: boolean;
  /** Public keys, one of which must have signed the bundle: sha256 detects damage, a signature identifies the author. */
  trusted?: PublicKey[];
  /** Refuse a bundle with a smaller rollback index, which somebody may have put back; 0 by default. */
  minRollbackIndex?: number;
  /** Called while the tables are downloaded. */
  onProgress?: (progress: Progress) => void;
}

/** The files of a bundle. */
export interface Files {
  readonly manifest: Manifest;
  /** Return the content of a file that was read. */
  content(entry: FileEntry): Bytes;
  /** Return a function from n to number n of a vector of whole numbers in the tables. */
  section(name: string): (n: number) => number | bigint;
  /** Return bytes of a section. */
  blob(name: string, start: number, end: number): Uint8Array;
}

export const closed = "this bundle was closed; load it again";

export type ManifestOptions = Pick<OpenOptions, "trusted" | "minRollbackIndex">;

/** Read and check only the manifest. @throws BundleError, SignatureError */
export async function openManifest(source: Source, { trusted, minRollbackIndex = 0 }: ManifestOptions): Promise<Manifest> {
  const manifest = await parse(await source.read(MANIFEST, MOST_BYTES, true), trusted);
  const { metadata, tables } = manifest;
  metadata.bytes = (await source.fileBytes?.(tables.bytes)) ?? metadata.bytes;
  const { rollbackIndex } = metadata;
  if (!(rollbackIndex >= minRollbackIndex)) {
    throw new SignatureError(
      `${MANIFEST} has rollback index ${rollbackIndex} where at least ${minRollbackIndex} is wanted; get the newest bundle`,
    );
  }
  return manifest;
}

export const UNPACK = "a bundle in one file takes no patch; 'edgerec unpack' makes a folder of it, which does";

/** Apply a patch to the bundle of a source. */
export async function applyTo(source: Source, patch: Bytes, trusted?: PublicKey[]): Promise<boolean> {
  if (source.fileBytes) {
    throw new PatchError(UNPACK);
  }
  const parsed = (content: Bytes) => parse(content, trusted);
  return (await import("./patch.ts")).apply(source, patch, { parse: parsed, checkFile, jsonObject, limits, sha256, EdgeRecError, PatchError });
}

/** Parse a manifest, and check that one of the trusted keys signed it. @throws BundleError, SignatureError */
export async function parse(content: Bytes, trusted?: PublicKey[]): Promise<Manifest> {
  if (trusted) {
    await (await import("./signature.ts")).checkSignature(content, trusted, { sha256, SignatureError, MissingError });
  }
  return readManifest(content);
}

/** Check a file against the manifest. @throws BundleError if its size or sha256 differs. */
export async function checkFile({ file, bytes, sha256: promised }: FileEntry, content: Bytes, verify: boolean): Promise<void> {
  const fault =
    content.length !== bytes
      ? `has ${content.length} bytes where ${MANIFEST} says ${bytes}`
      : verify && (await sha256(content)) !== promised && `is not the file that ${MANIFEST} describes (sha256 differs)`;
  if (fault) {
    throw new BundleError(`${file} ${fault}; copy it again`);
  }
}

/** Read a file and check it against the manifest; if a cached copy is wrong, fetch the file again. @throws BundleError */
export async function readFile(
  source: Source,
  entry: FileEntry,
  check: boolean,
  progress?: (loaded: number) => void,
): Promise<Bytes> {
  const once = async (fresh: boolean) => {
    const content = await source.read(entry.file, entry.bytes, fresh, progress);
    await checkFile(entry, content, check);
    return content;
  };
  return once(false).catch(() => once(true));
}

/**
 * Read the files of a bundle and check them.
 *
 * @param refuse is given each graph, and throws if it is refused.
 * @throws BundleError no bundle, a missing, truncated or changed file, or a newer major version; SignatureError if trusted
 *   keys are given; MissingError if checksums cannot be computed.
 */
export async function openFiles(
  source: Source,
  options: OpenOptions,
  refuse: (graph: Graph, content: Bytes, manifest: Manifest) => void,
): Promise<Files> {
  const { trusted, onProgress } = options;
  const manifest = await openManifest(source, options);
  const { tables, graphs, others, sections } = manifest;
  const verify = !!trusted || options.verify !== false;
  const files = new Map<string, Bytes>();

  async function read(entry: FileEntry, check: boolean, progress?: (loaded: number) => void): Promise<Bytes> {
    const content = await readFile(source, entry, check, progress);
    files.set(entry.file, content);
    return content;
  }

  for (const graph of graphs.values()) {
    refuse(graph, await read(graph, verify || canHash()), manifest);
  }
  await read(tables, verify, (loaded) => onProgress?.({ loaded, total: tables.bytes }));
  for (const entry of trusted ? others : []) {
    await read(entry, true);
  }
  await source.keepOnly?.([MANIFEST, ...manifest.ownFiles.map(({ file }) => file)]);
  const content = ({ file }: FileEntry) => files.get(file)!;
  return {
    manifest,
    content,
    section(name) {
      const [offset, dtype] = sections.get(name)!;
      const [, unsigned, bits] = /(u?)int(\d+)/.exec(dtype)!;
      const { buffer, byteOffset } = content(tables);
      const values = new DataView(buffer, byteOffset + offset);
      const get = `get${bits === "64" ? "Big" : ""}${unsigned ? "Uint" : "Int"}${bits}` as "getUint32";
      return (n) => values[get]((n * +bits!) / 8, true);
    },
    blob(name, start, end) {
      const [offset] = sections.get(name)!;
      return content(tables).subarray(offset + start, offset + end);
    },
  };
}
