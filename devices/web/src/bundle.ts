/** An open bundle: its files are checked, its graphs are opened on first use and share the tables. */

import type { InferenceSession, Tensor } from "onnxruntime-common";

import { limits, reader_options } from "../../../edgerec/runtime/bundle-spec.json";
import { BundleError, EdgeRecError, firstLine, MissingError, PatchError, RequestError, SignatureError } from "./errors.ts";
import { MANIFEST, MOST_BYTES, readManifest, type FileEntry, type Manifest } from "./manifest.ts";
import { graphFault } from "./onnx.ts";
import { canHash, sha256 } from "./sha256.ts";
import type { PublicKey } from "./signature.ts";
import { jsonObject, type Bytes, type Progress, type Source } from "./source.ts";

/** The required parts of onnxruntime-web or onnxruntime-node. */
export type Runtime = Pick<typeof import("onnxruntime-common"), "InferenceSession" | "Tensor" | "env">;

/** Inputs of a graph by name: values (whole numbers, or a Float32Array) and their shape. */
export type Feed = Record<string, [values: number[] | Float32Array, shape: number[]]>;
export type Outputs = Record<string, Tensor>;

export interface LoadOptions {
  /** The imported onnxruntime-web or onnxruntime-node; by default it is imported when the first graph is opened. */
  runtime?: Runtime;
  /** onnxruntime's execution providers, best first; by default onnxruntime chooses. */
  providers?: string[];
  /** Compare the sha256 of the tables; true by default. Sizes and the sha256 of graphs are always compared if possible. */
  verify?: boolean;
  /** Public keys, one of which must have signed the bundle: sha256 detects damage, a signature identifies the author. */
  trusted?: PublicKey[];
  /** Refuse a bundle with a smaller rollback index, which somebody may have put back; 0 by default. */
  minRollbackIndex?: number;
  /** Called while the tables are downloaded. */
  onProgress?: (progress: Progress) => void;
}

export interface Bundle {
  readonly manifest: Manifest;
  /** Return the content of an opened file. */
  content(entry: FileEntry): Bytes;
  /** Return a function from n to number n of a vector of whole numbers in the tables. */
  section(name: string): (n: number) => number | bigint;
  /** Return bytes of a section. */
  blob(name: string, start: number, end: number): Uint8Array;
  /** Return the session of a graph, opened on first use. @throws RequestError if there is no such graph, BundleError. */
  opened(name: string): Promise<InferenceSession>;
  /** Run a graph. @throws BundleError if it fails because its parts do not fit together. */
  run(name: string, feed: Feed): Promise<Outputs>;
  /** Release all sessions; later calls are errors. */
  close(): Promise<void>;
}

export type ManifestOptions = Pick<LoadOptions, "trusted" | "minRollbackIndex">;

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

/**
 * Read the bundle of a source and check it.
 *
 * @param importing imports onnxruntime on this platform, if the options do not contain it.
 * @throws BundleError no bundle, a missing, truncated or changed file, a graph that does what no bundle does, or a newer
 *   major version; SignatureError if trusted keys are given; MissingError if checksums cannot be computed.
 */
export async function openBundle(source: Source, options: LoadOptions, importing: () => Promise<Runtime>): Promise<Bundle> {
  const { providers, trusted, onProgress } = options;
  const manifest = await openManifest(source, options);
  const { tables, graphs, others, sections } = manifest;
  const verify = !!trusted || options.verify !== false;
  const files = new Map<string, Bytes>();
  const sessions = new Map<string, Promise<InferenceSession>>();
  /** The last call: onnxruntime's WebAssembly runs one at a time. */
  let busy: Promise<unknown> = Promise.resolve();
  let closed = false;

  /** Read a file and check it against the manifest; if a cached copy is wrong, fetch the file again. */
  async function read(entry: FileEntry, check: boolean, progress?: (loaded: number) => void): Promise<Bytes> {
    const { file, bytes } = entry;
    const once = async (fresh: boolean) => {
      const content = await source.read(file, bytes, fresh, progress);
      await checkFile(entry, content, check);
      files.set(file, content);
      return content;
    };
    return once(false).catch(() => once(true));
  }

  const runtime = async () =>
    options.runtime ??
    importing().catch((error: unknown) => {
      throw new MissingError(
        `onnxruntime cannot be imported (${firstLine(error)}); install onnxruntime-web, or give it as runtime`,
      );
    });

  async function open(name: string): Promise<InferenceSession> {
    const graph = graphs.get(name);
    if (!graph) {
      throw new RequestError(`this bundle has no '${name}' graph: it was exported without`);
    }
    const { InferenceSession, env } = await runtime();
    const options: InferenceSession.SessionOptions = {
      enableMemPattern: false,
      // Constant folding is off: a hostile graph of a few kB could otherwise allocate gigabytes when it is opened.
      extra: { ...manifest.session, ...reader_options },
      logSeverityLevel: 3,
      executionProviders: providers!, // undefined lets onnxruntime choose
    };
    try {
      if (source.path && env.versions.node) {
        return await InferenceSession.create(source.path(graph.file), options);
      }
      options.externalData = [{ path: tables.file, data: content(tables) }];
      return await InferenceSession.create(content(graph), options);
    } catch (error) {
      throw new BundleError(`onnxruntime cannot open ${graph.file}: ${firstLine(error)}`);
    }
  }

  const content = ({ file }: FileEntry) => files.get(file)!;

  const bundle: Bundle = {
    manifest,
    content,
    section(name) {
      const [offset, dtype] = sections.get(name)!;
      const [, unsigned, bits] = /(u?)int(\d+)/.exec(dtype)!;
      const values = new DataView(content(tables).buffer, offset);
      const get = `get${bits === "64" ? "Big" : ""}${unsigned ? "Uint" : "Int"}${bits}` as "getUint32";
      return (n) => values[get]((n * +bits!) / 8, true);
    },
    blob(name, start, end) {
      const [offset] = sections.get(name)!;
      return content(tables).subarray(offset + start, offset + end);
    },
    opened(name) {
      if (closed) {
        throw new RequestError("this bundle was closed; load it again");
      }
      const opened = sessions.get(name) ?? open(name);
      sessions.set(name, opened);
      opened.catch(() => sessions.delete(name)); // another attempt may have more memory
      return opened;
    },
    run(name, feed) {
      const answer = busy.then(async () => {
        const session = await bundle.opened(name);
        const { Tensor } = await runtime();
        const tensors: Outputs = {};
        try {
          for (const [input, [values, shape]] of Object.entries(feed)) {
            const typed = values instanceof Float32Array ? values : BigInt64Array.from(values, BigInt);
            tensors[input] = new Tensor(typed as Float32Array, shape); // the array determines the tensor's type
          }
          return await session.run(tensors);
        } catch (error) {
          throw new BundleError(`the '${name}' graph failed: ${firstLine(error)}; export it again`);
        }
      });
      busy = answer.catch(() => undefined);
      return answer;
    },
    async close() {
      closed = true;
      await busy;
      for (const opened of sessions.values()) {
        await (await opened).release();
      }
      sessions.clear();
    },
  };

  for (const graph of graphs.values()) {
    const fault = graphFault(await read(graph, verify || canHash()), tables.file, graph.tensors, manifest.items.rows);
    if (fault) {
      throw new BundleError(`${graph.file} is refused: ${fault}; export it again`);
    }
  }
  await read(tables, verify, (loaded) => onProgress?.({ loaded, total: tables.bytes }));
  for (const entry of trusted ? others : []) {
    await read(entry, true);
  }
  await source.keepOnly?.([MANIFEST, ...manifest.ownFiles.map(({ file }) => file)]);
  return bundle;
}
