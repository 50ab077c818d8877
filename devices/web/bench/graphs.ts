/** Calls of graphs with bundle rows instead of ids, and in batches. */

import { checkFile } from "../src/bundle.ts";
import { openBundle, type Feed as Inputs, type OnnxBundle, type Runtime, type Tensors } from "../src/onnxruntime.ts";
import type { Source } from "../src/source.ts";

/** Inputs of a graph in bundle rows: one list per row of the batch, padded with -1; only `k` is a single number. */
export interface Feed {
  user?: number[];
  item?: number[];
  history?: number[][];
  vector?: number[][];
  exclude?: number[][];
  candidates?: number[][];
  k?: number;
}

/** Numbers in rows. */
export interface Matrix {
  readonly data: ArrayLike<number | bigint | string>;
  readonly dims: readonly number[];
}

/** Calls in bundle rows: of graphs, or of the kernel. */
export interface Calls {
  /** Numbers of rows; no users: 0. */
  readonly sizes: { items: number; users: number };
  has(name: string): boolean;
  /** Open what answers a call, so that the first one does not. */
  prepare(name: string): Promise<void>;
  run(name: string, feed: Feed): Promise<Record<string, Matrix>>;
  /** Compare checksums; null if that is not measured. */
  verify(): Promise<unknown>;
}

export class Graphs implements Calls {
  readonly #bundle: OnnxBundle;

  private constructor(bundle: OnnxBundle) {
    this.#bundle = bundle;
  }

  /** Open a bundle without verification, which is measured separately. */
  static async open(runtime: Runtime, source: Source, providers: string[]): Promise<Graphs> {
    return new Graphs(await openBundle(source, { runtime, providers, verify: false }, async () => runtime));
  }

  get sizes() {
    return this.#bundle.manifest.metadata;
  }

  has(name: string): boolean {
    return this.#bundle.manifest.graphs.has(name);
  }

  /** Open a graph. */
  async prepare(name: string): Promise<void> {
    await this.#bundle.opened(name);
  }

  /** Compare the sha256 of tables and graphs. */
  async verify(): Promise<true> {
    const { tables, graphs } = this.#bundle.manifest;
    for (const entry of [tables, ...graphs.values()]) {
      await checkFile(entry, this.#bundle.content(entry), true);
    }
    return true;
  }

  /** Call a graph, after the 'encode' graph if the bundle has one. */
  async run(name: string, feed: Feed): Promise<Tensors> {
    return this.#bundle.run(name, inputs(name === "encode" ? feed : await this.#encoded(feed)));
  }

  async #encoded(feed: Feed): Promise<Feed> {
    const { history, ...rest } = feed;
    if (history === undefined || !this.has("encode")) {
      return feed;
    }
    const { vector } = await this.run("encode", { history });
    const rows = matrix(vector!);
    const exclude = rest.exclude?.map((excluded, row) => [...excluded, ...(history[row] as number[])]);
    return { ...rest, vector: rows, ...(exclude && { exclude }) };
  }
}

/** Convert a feed to a bundle's inputs. */
function inputs(feed: Feed): Inputs {
  const found: Inputs = {};
  for (const [name, value] of Object.entries(feed) as [keyof Feed, number | number[] | number[][]][]) {
    if (typeof value === "number") {
      found[name] = [[value], []];
    } else if (isMatrix(name, value)) {
      const flat = value.flat();
      found[name] = [name === "vector" ? Float32Array.from(flat) : flat, [value.length, value[0]?.length ?? 0]];
    } else {
      found[name] = [value, [value.length]];
    }
  }
  return found;
}

/** Return the rows of a matrix. */
export function matrix({ data, dims }: Matrix): number[][] {
  const [rows, width] = dims as [number, number];
  return Array.from({ length: rows }, (_, row) => Array.from({ length: width }, (_, at) => Number(data[row * width + at])));
}

function isMatrix(name: keyof Feed, _: number[] | number[][]): _ is number[][] {
  return name !== "user" && name !== "item";
}
