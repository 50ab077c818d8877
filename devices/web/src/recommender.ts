/** The one thing that an app needs: raw ids in, raw ids out. */

import type { Bundle, Feed } from "./bundle.ts";
import { BundleError, firstLine, MissingError, RequestError } from "./errors.ts";
import { idsOf, titlesOf, type Id, type Ids } from "./ids.ts";
import type { Metadata } from "./manifest.ts";
import type { Ranking } from "./ranking.ts";
import type { Session, SessionOptions } from "./session.ts";

/** One answer: the item's raw id and its score. */
export interface Recommendation {
  item: Id;
  score: number;
}

/** Who asks: exactly one of these. */
export interface Subject {
  /** A raw id, of a bundle with users. */
  user?: Id;
  /** Raw item ids, of a bundle without users, each counted once; they do not come back. May be empty. */
  history?: Iterable<Id>;
}

export interface Limits {
  /** How many; 10. */
  k?: number;
  /** Raw ids of items that must not come back. */
  exclude?: Iterable<Id>;
  /** Raw ids of the only items that may come back. */
  allow?: Iterable<Id>;
}

export interface Recommender {
  readonly metadata: Metadata;
  /**
   * The k best items, best first; fewer where fewer are left. Of an empty history every score is 0 and the most popular
   * items come first.
   *
   * @throws RequestError an unknown user or item, k outside 1..items, the wrong one of user and history, or an empty
   *   history where the bundle does not say which items are popular. BundleError the bundle answers what no bundle does:
   *   rows that it does not have, numbers that are not finite.
   */
  recommend(request: Subject & Limits): Promise<Recommendation[]>;
  /** Scores of the given items, in their order; zeros of an empty history. @throws RequestError as `recommend` does. */
  score(request: Subject & { items: Iterable<Id> }): Promise<Float32Array>;
  /** The k items, 10, most like an item, itself left out, by the cosine of their vectors. */
  similar(item: Id, k?: number): Promise<Recommendation[]>;
  /** The vector of a history; only of bundles whose 'encode' graph makes it. */
  encode(history: Iterable<Id>): Promise<Float32Array>;
  /** The item's title; null where the bundle carries none. @throws RequestError for an unknown item. */
  title(item: Id): string | null;
  /** Whether the bundle knows an item. */
  has(item: Id): boolean;
  /** The id of every item, by row. */
  items(): Id[];
  /** A history that grows. @throws RequestError in a bundle with users, or for a limit below 1; MissingError of its store. */
  session(options?: SessionOptions): Promise<Session>;
  /** Release what onnxruntime holds; what is asked afterwards is refused. */
  close(): Promise<void>;
}

export function recommenderOf(bundle: Bundle): Recommender {
  const { manifest } = bundle;
  const { d } = manifest.metadata;
  const { rows } = manifest.items;
  const items = idsOf(bundle, "item_id", manifest.items);
  const users = manifest.users && idsOf(bundle, "user_id", manifest.users);
  const titles = titlesOf(bundle);

  const allRows = () => [...Array(rows).keys()];

  /** The rows of raw item ids. */
  function rowsOf(ids: Iterable<Id>): number[] {
    if (typeof ids === "string" || !ids?.[Symbol.iterator]) {
      throw new RequestError(`expected a list of ids, got ${ids}: wrap it in []`);
    }
    return Array.from(ids, (id) => known(items, id, "item"));
  }

  function demandWhole(name: string, value: number, most: number): void {
    if (!(Number.isInteger(value) && value > 0 && value <= most)) {
      throw new RequestError(`${name} must be a whole number in 1..${most}, got ${value}`);
    }
  }

  /** Histories are for bundles without users, and only they have them. */
  function demandUsers(wanted: boolean): void {
    if (!users === wanted) {
      throw new RequestError(`this bundle has ${users ? "users: give a user" : "no users: give a history of items"}`);
    }
  }

  /** What the graphs take, and of a history its rows. */
  async function asked({ user, history }: Subject): Promise<[Feed, number[]?]> {
    if ((user == null) === (history == null)) {
      throw new RequestError("give either a user or a history of item ids");
    }
    demandUsers(user != null);
    if (user != null) {
      return [{ user: [[known(users!, user, "user")], [1]] }];
    }
    const past = [...new Set(rowsOf(history!))];
    const feed = { history: matrix(past[0] == null ? [-1] : past) }; // products over nothing differ by version
    return [manifest.graphs.has("encode") ? { vector: [await encoded(feed), [1, d]] } : feed, past];
  }

  /** Refuse an answer that no bundle gives. */
  function demand(sound: boolean): void {
    if (!sound) {
      throw new BundleError("the bundle answers with what no bundle does; export it again");
    }
  }

  /** The one vector of numbers that a graph answers. */
  async function numbers(graph: string, output: string, feed: Feed, count: number): Promise<Float32Array> {
    const data = (await bundle.run(graph, feed))[output]!.data as Float32Array;
    demand(data.length === count && data.every(Number.isFinite));
    return data;
  }

  const encoded = (feed: Feed) => numbers("encode", "vector", feed, d);

  function answer(ranking: Ranking): Recommendation[] {
    return ranking.map(([row, score]) => {
      demand(row >= 0 && row < rows && Number.isFinite(score));
      return { item: items.id(row), score };
    });
  }

  /** The best k of what is left. */
  async function ranked(graph: string, feed: Feed, k: number, left: number): Promise<Recommendation[]> {
    const { items, scores } = await bundle.run(graph, { ...feed, k: [[k], []] });
    const found = Array.from(items!.data as BigInt64Array, Number).filter((row) => row >= 0);
    demand(found.length === Math.min(k, left)); // a score of -inf would pass for an item that is excluded
    // What is missing comes last.
    return answer(found.map((row, at) => [row, scores!.data[at] as number]));
  }

  const scored = async (feed: Feed, candidates: number[]) =>
    candidates.length > 0
      ? numbers("score", "scores", { ...feed, candidates: matrix(candidates) }, candidates.length)
      : new Float32Array();

  const model: Recommender = {
    metadata: manifest.metadata,
    async recommend({ k = 10, exclude = [], allow, ...subject }) {
      demandWhole("k", k, rows);
      const unwanted = rowsOf(exclude);
      const allowed = allow == null ? null : new Set(rowsOf(allow));
      const [feed, past] = await asked(subject);
      const gone = new Set([...unwanted, ...(past ?? [])]);
      const may = (row: number) => !gone.has(row) && (!allowed || allowed.has(row));
      if (past && past[0] == null) {
        return answer((await import("./ranking.ts")).popularOf(bundle, may, k, RequestError));
      }
      // Scoring a short list is cheaper than excluding the rest of the catalogue (edgerec/runtime/ranking.py).
      if (allowed && allowed.size * d <= rows) {
        const left = [...allowed].filter(may);
        return answer((await import("./ranking.ts")).bestOf(left, await scored(feed, left), k));
      }
      const excluded = allowed ? allRows().filter((row) => !may(row)) : [...gone];
      return ranked("recommend", { ...feed, exclude: matrix(excluded) }, k, rows - excluded.length);
    },
    async score({ items, ...subject }) {
      const candidates = rowsOf(items);
      return scored((await asked(subject))[0], candidates);
    },
    async similar(item, k = 10) {
      demandWhole("k", k, rows);
      return ranked("similar", { item: [rowsOf([item]), [1]] }, k, rows - 1);
    },
    async encode(history) {
      const [{ vector }] = await asked({ history });
      return (vector?.[0] as Float32Array) ?? encoded({}); // which there is no graph for
    },
    title(item) {
      const [row] = rowsOf([item]);
      return titles?.(row!) || null;
    },
    has: (item) => items.row(item) >= 0,
    items: () => allRows().map(items.id),
    async session(options = {}) {
      demandUsers(false);
      demandWhole("the limit", options.limit ?? 1, Infinity);
      try {
        return await (await import("./session.ts")).openSession(model, options);
      } catch (error) {
        throw new MissingError(`no history can be kept here: ${firstLine(error)}`);
      }
    },
    close: bundle.close,
  };
  return model;
}

function known(ids: Ids, id: Id, what: string): number {
  const row = ids.row(id);
  if (row < 0) {
    throw new RequestError(`${what} ${typeof id === "string" ? `'${id}'` : id} is not in the bundle`);
  }
  return row;
}

const matrix = (row: number[]): Feed[string] => [row, [1, row.length]];
