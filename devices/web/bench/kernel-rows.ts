/** Calls of the kernel in bundle rows and in batches, in the form of `Graphs`. */

import { openKernel } from "../src/kernel.ts";
import type { Ranking, RowModel, RowSubject } from "../src/recommender.ts";
import type { Source } from "../src/source.ts";
import type { Calls, Feed, Matrix } from "./graphs.ts";

export class KernelRows implements Calls {
  readonly #model: RowModel;

  private constructor(model: RowModel) {
    this.#model = model;
  }

  /** Open a bundle without verification. */
  static async open(source: Source, compile: () => Promise<WebAssembly.Module>): Promise<KernelRows> {
    return new KernelRows(await openKernel(source, { verify: false }, compile));
  }

  get sizes() {
    return this.#model.metadata;
  }

  has(name: string): boolean {
    return this.#model.metadata.graphs.includes(name);
  }

  async prepare(): Promise<void> {
    // There is nothing to open.
  }

  async run(name: string, feed: Feed): Promise<Record<string, Matrix>> {
    const { user, history, vector, item, exclude, candidates, k = 0 } = feed;
    const rows = (user ?? history ?? vector ?? item)!.length;
    const found: number[][] = [];
    const scores: number[][] = [];
    for (let row = 0; row < rows; row++) {
      const past = history?.[row] && [...new Set(history[row]!.filter((one) => one >= 0))];
      const subject: RowSubject = { user: user?.[row], history: past, vector: vector?.[row] };
      const limits = { k, gone: new Set(exclude?.[row]?.filter((one) => one >= 0)), allowed: null };
      let ranking: Ranking = [];
      if (name === "recommend") {
        ranking = await this.#model.recommend(subject, limits);
      } else if (name === "similar") {
        ranking = await this.#model.similar(item![row]!, limits);
      } else {
        const values = name === "score" ? this.#model.score(subject, candidates![row]!) : this.#model.encode(past!);
        scores.push(Array.from(await values));
        continue;
      }
      const width = Math.min(k, this.#model.metadata.items);
      found.push(Array.from({ length: width }, (_, at) => ranking[at]?.[0] ?? -1));
      scores.push(Array.from({ length: width }, (_, at) => ranking[at]?.[1] ?? -Infinity));
    }
    return { [name === "encode" ? "vector" : "scores"]: matrixOf(scores), ...(found.length > 0 && { items: matrixOf(found) }) };
  }

  /** The kernel's tables are not read again. */
  async verify(): Promise<null> {
    return null;
  }
}

const matrixOf = (rows: number[][]): Matrix => ({ data: rows.flat(), dims: [rows.length, rows[0]?.length ?? 0] });
