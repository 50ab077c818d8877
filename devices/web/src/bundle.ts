/** An open bundle: files checked, graphs opened on first use with the tables as their external data. */

import type { InferenceSession, Tensor } from "onnxruntime-web";

import { BundleError, FILE_NAME, readManifest, type FileEntry, type Manifest } from "./manifest.ts";

/** The parts of onnxruntime-web that are used; which build it is, is the caller's choice. */
export type Ort = Pick<typeof import("onnxruntime-web"), "InferenceSession" | "Tensor" | "env">;
export type Bytes = Uint8Array<ArrayBuffer>;

/** Where the files of a bundle lie. */
export interface Source {
  /** The content of a file; raises BundleError where there is none. */
  read(name: string): Promise<Bytes>;
}

/** Inputs of a graph in bundle rows: a list a row of the batch, padded with -1; `k` alone is one number. */
export interface Feed {
  user?: number[];
  item?: number[];
  history?: number[][];
  vector?: number[][];
  exclude?: number[][];
  candidates?: number[][];
  k?: number;
}

/** Outputs of a graph by name. */
export type Outputs = Record<string, Tensor>;

export class Bundle {
  readonly manifest: Manifest;
  readonly #ort: Ort;
  readonly #source: Source;
  readonly #tables: Bytes;
  readonly #providers: string[];
  readonly #sessions = new Map<string, Promise<InferenceSession>>();

  private constructor(ort: Ort, source: Source, manifest: Manifest, tables: Bytes, providers: string[]) {
    this.#ort = ort;
    this.#source = source;
    this.manifest = manifest;
    this.#tables = tables;
    this.#providers = providers;
  }

  /**
   * Open the bundle of a source; its tables are read at once, its graphs on first use.
   *
   * @param providers onnxruntime's, best first: "webgpu", "wasm".
   * @throws BundleError no bundle, a missing or cut file, or a newer major version.
   */
  static async open(ort: Ort, source: Source, providers: string[] = ["wasm"]): Promise<Bundle> {
    const manifest = readManifest(await source.read(FILE_NAME));
    return new Bundle(ort, source, manifest, await readWhole(source, manifest.tables), providers);
  }

  hasGraph(name: string): boolean {
    return name in this.manifest.graphs;
  }

  /** Compare the sha256 of tables and graphs. Needs a secure context: https, or this very machine. */
  async verify(): Promise<void> {
    await checkSha256(this.manifest.tables, this.#tables);
    for (const entry of Object.values(this.manifest.graphs)) {
      await checkSha256(entry, await readWhole(this.#source, entry));
    }
  }

  /** The session of a graph, opened on first use. */
  session(name: string): Promise<InferenceSession> {
    let opened = this.#sessions.get(name);
    if (opened === undefined) {
      opened = this.#open(name);
      this.#sessions.set(name, opened);
    }
    return opened;
  }

  /** What a graph answers. */
  async run(name: string, feed: Feed): Promise<Outputs> {
    return (await this.session(name)).run(this.tensors(feed));
  }

  /** What a graph takes: where one of its own, 'encode', makes users' vectors, a vector in place of the history. */
  async encoded(feed: Feed): Promise<Feed> {
    const { history, ...rest } = feed;
    if (history === undefined || !this.hasGraph("encode")) {
      return feed;
    }
    const { vector } = await this.run("encode", { history });
    const rows = matrix(vector as Tensor);
    const exclude = rest.exclude?.map((excluded, row) => [...excluded, ...(history[row] as number[])]);
    return { ...rest, vector: rows, ...(exclude && { exclude }) };
  }

  /** A feed as onnxruntime takes it. */
  tensors(feed: Feed): Outputs {
    const { Tensor } = this.#ort;
    const whole = (values: number[], dims: number[]) => new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
    const feeds: Outputs = {};
    for (const [name, value] of Object.entries(feed) as [keyof Feed, number | number[] | number[][]][]) {
      if (typeof value === "number") {
        feeds[name] = whole([value], []);
      } else if (isMatrix(name, value)) {
        const dims = [value.length, value[0]?.length ?? 0];
        const flat = value.flat();
        feeds[name] = name === "vector" ? new Tensor("float32", Float32Array.from(flat), dims) : whole(flat, dims);
      } else {
        feeds[name] = whole(value, [value.length]);
      }
    }
    return feeds;
  }

  async #open(name: string): Promise<InferenceSession> {
    const { tables, graphs, session } = this.manifest;
    const entry = graphs[name];
    if (entry === undefined) {
      throw new BundleError(`the bundle has no '${name}' graph`);
    }
    return this.#ort.InferenceSession.create(await readWhole(this.#source, entry), {
      executionProviders: this.#providers,
      externalData: [{ path: tables.file, data: this.#tables }],
      enableMemPattern: false,
      extra: session,
      logSeverityLevel: 3,
    });
  }
}

/** The rows of a matrix. */
export function matrix(tensor: Tensor): number[][] {
  const values = tensor.data as Float32Array | BigInt64Array;
  const [rows, width] = tensor.dims as [number, number];
  return Array.from({ length: rows }, (_, row) => Array.from(values.subarray(row * width, (row + 1) * width), Number));
}

function isMatrix(name: keyof Feed, _: number[] | number[][]): _ is number[][] {
  return name !== "user" && name !== "item";
}

async function readWhole(source: Source, entry: FileEntry): Promise<Bytes> {
  const content = await source.read(entry.file);
  if (content.byteLength !== entry.bytes) {
    throw new BundleError(
      `${entry.file} has ${content.byteLength} bytes where ${FILE_NAME} says ${entry.bytes}; copy the bundle again`,
    );
  }
  return content;
}

async function checkSha256(entry: FileEntry, content: Bytes): Promise<void> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const text = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (text !== entry.sha256) {
    throw new BundleError(
      `${entry.file} is not the file that ${FILE_NAME} describes (sha256 differs); copy the bundle again`,
    );
  }
}
