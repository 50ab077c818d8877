/** The recommender, the main interface for apps: raw ids in, raw ids out. */

import type { Bundle, Feed } from "./bundle.ts";
import { BundleError, firstLine, MissingError, RequestError } from "./errors.ts";
import { codedIds } from "./coded.ts";
import { idsOf, titlesOf, type Id, type Ids } from "./ids.ts";
import type { Metadata, RowsEntry } from "./manifest.ts";
import type { Ranking } from "./ranking.ts";
import type { Session, SessionOptions } from "./session.ts";

/** A recommended item's raw id and its score. */
export interface Recommendation {
  item: Id;
  score: number;
}

/** The subject of a recommendation: exactly one of these. */
export interface Subject {
  /** A raw user id, for a bundle with users. */
  user?: Id;
  /** Raw item ids, for a bundle without users. Each counts once, and is not recommended. May be empty. */
  history?: Iterable<Id>;
  /**
   * The user's own vector, for a bundle with an 'encode' graph: d numbers, the largest between 2^-32 and 2^32. Nothing is
   * excluded for it.
   */
  vector?: ArrayLike<number>;
}

/** Ways to treat ids of a list that the bundle does not know: refuse them, or skip them as if they were not given. */
export interface Unknown {
  /** Of `history`, `exclude` and `allow`; "error" by default. A history of skipped ids alone is an empty one. */
  onUnknown?: "error" | "skip";
}

export interface Limits extends Unknown {
  /** Number of items; 10 by default. */
  k?: number;
  /** Raw ids of items that must not be recommended. */
  exclude?: Iterable<Id>;
  /** Raw ids of the only items that may be recommended. */
  allow?: Iterable<Id>;
}

export interface Recommender {
  readonly metadata: Metadata;
  /**
   * Return the k best items, best first; fewer if fewer are left. For an empty history every score is 0 and the most
   * popular items come first.
   *
   * @throws RequestError an unknown user or item, k outside 1..items, the wrong one of user, history and vector, or an
   *   empty history if the bundle does not list popular items. BundleError an invalid answer of the bundle: unknown rows, or
   *   numbers that are not finite.
   */
  recommend(request: Subject & Limits): Promise<Recommendation[]>;
  /**
   * Return the k items with the most interactions in training, best first, all with score 0. A bundle lists 256; others
   * follow by row. @throws RequestError if the bundle does not list any.
   */
  popular(limits?: number | Limits): Promise<Recommendation[]>;
  /** Return the scores of items, in order; zeros for an empty history. @throws RequestError like `recommend`. */
  score(request: Subject & Unknown & { items: Iterable<Id> }): Promise<Float32Array>;
  /**
   * Return the k (10 by default) items most similar to an item by the cosine of their vectors, without the item. The more
   * items `exclude` and `allow` leave out, the longer it takes.
   */
  similar(item: Id, limits?: number | Limits): Promise<Recommendation[]>;
  /** Compute the vector of a history; only for bundles with an 'encode' graph. */
  encode(history: Iterable<Id>, options?: Unknown): Promise<Float32Array>;
  /** Return an item's title; null if the bundle has none. @throws RequestError for an unknown item. */
  title(item: Id): string | null;
  /** Return true if the bundle knows an item. */
  has(item: Id): boolean;
  /** Return the id of every item, by row. */
  items(): Id[];
  /** Open a growing history. @throws RequestError for a bundle with users, or a limit below 1; MissingError of its store. */
  session(options?: SessionOptions): Promise<Session>;
  /** Release onnxruntime's memory; later calls are errors. */
  close(): Promise<void>;
}

export function recommenderOf(bundle: Bundle): Recommender {
  const { manifest } = bundle;
  const { d } = manifest.metadata;
  const { rows } = manifest.items;
  const indexOf = (name: "item_id" | "user_id", side: RowsEntry) =>
    side.ids !== "none" && parseInt(manifest.metadata.version) > 1 ? codedIds(bundle, `${name}s`, side) : idsOf(bundle, name, side);
  const items = indexOf("item_id", manifest.items);
  const users = manifest.users && indexOf("user_id", manifest.users);
  const titles = titlesOf(bundle);

  const allRows = () => [...Array(rows).keys()];

  /** Return the rows of raw item ids. */
  function rowsOf(ids: Iterable<Id>, onUnknown: Unknown["onUnknown"] = "error"): number[] {
    if (typeof ids === "string" || !ids?.[Symbol.iterator]) {
      throw new RequestError(`expected a list of ids, got ${ids}: wrap it in []`);
    }
    if (onUnknown !== "skip" && onUnknown !== "error") {
      throw new RequestError("onUnknown is 'error' or 'skip'");
    }
    return [...ids].filter((id) => onUnknown === "error" || model.has(id)).map((id) => known(items, id, "item"));
  }

  /** Return what limits an answer: k, excluded and allowed rows, whether a row may be in it, and all rows that may not. */
  function limited(limits: number | Limits) {
    const { k = 10, exclude = [], allow, onUnknown } = (Object(limits) === limits ? limits : { k: limits }) as Limits;
    demandWhole("k", k, rows);
    const gone = new Set(rowsOf(exclude, onUnknown));
    const allowed = allow == null ? null : new Set(rowsOf(allow, onUnknown));
    const may = (row: number) => !gone.has(row) && (!allowed || allowed.has(row));
    return [k, may, () => (allowed ? allRows().filter((row) => !may(row)) : [...gone]), gone, allowed] as const;
  }

  function demandWhole(name: string, value: number, most: number): void {
    if (!(Number.isInteger(value) && value > 0 && value <= most)) {
      throw new RequestError(`${name} must be a whole number in 1..${most}, got ${value}`);
    }
  }

  /** Check that the bundle has users, or none: only bundles without users take histories. */
  function demandUsers(wanted: boolean): void {
    if (!users === wanted) {
      throw new RequestError(`this bundle has ${users ? "users: give a user" : "no users: give a history of items"}`);
    }
  }

  /** Return the graphs' inputs for a subject, and the rows of a history. */
  async function subjectFeed({ user, history, vector, onUnknown }: Subject & Unknown): Promise<[Feed, number[]?]> {
    if ([user, history, vector].filter((one) => one != null).length !== 1) {
      throw new RequestError("give either a user or a history of item ids or a vector");
    }
    demandUsers(user != null);
    if (user != null) {
      return [{ user: [[known(users!, user, "user")], [1]] }];
    }
    if (vector != null) {
      return [(await lists()).vectorFeed(bundle, vector, RequestError)];
    }
    const past = [...new Set(rowsOf(history!, onUnknown))];
    const feed = { history: matrix(past[0] == null ? [-1] : past) }; // results for empty inputs differ by onnxruntime's version
    return [manifest.graphs.has("encode") ? { vector: [await encoded(feed), [1, d]] } : feed, past];
  }

  const lists = () => import("./ranking.ts");

  /** Refuse an invalid answer of the bundle. */
  function demand(sound: boolean): void {
    if (!sound) {
      throw new BundleError("the bundle answers with what no bundle does; export it again");
    }
  }

  /** Run a graph that returns one vector of finite numbers. */
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

  /** Run a graph that returns the k best of the remaining items. */
  async function ranked(graph: string, feed: Feed, k: number, left: number): Promise<Ranking> {
    const { items, scores } = await bundle.run(graph, { ...feed, k: [[k], []] });
    const found = Array.from(items!.data as BigInt64Array, Number).filter((row) => row >= 0);
    demand(found.length === Math.min(k, left)); // otherwise an item with score -inf would count as excluded
    // Missing items are last.
    return found.map((row, at) => [row, scores!.data[at] as number]);
  }

  const popular = async ([k, may]: ReturnType<typeof limited>) =>
    answer((await lists()).popularOf(bundle, may, k, RequestError));

  const scored = async (feed: Feed, candidates: number[]) =>
    candidates.length > 0
      ? numbers("score", "scores", { ...feed, candidates: matrix(candidates) }, candidates.length)
      : new Float32Array();

  const model: Recommender = {
    metadata: manifest.metadata,
    async recommend(request) {
      const limits = limited(request);
      const [k, may, out, gone, allowed] = limits;
      const [feed, past] = await subjectFeed(request);
      past?.forEach((row) => gone.add(row));
      if (past && past[0] == null) {
        return popular(limits);
      }
      // Scoring a short list is cheaper than excluding the rest of the catalogue (edgerec/runtime/ranking.py).
      if (allowed && allowed.size * d <= rows) {
        const left = [...allowed].filter(may);
        return answer((await lists()).bestOf(left, await scored(feed, left), k));
      }
      const excluded = out();
      return answer(await ranked("recommend", { ...feed, exclude: matrix(excluded) }, k, rows - excluded.length));
    },
    popular: async (limits = {}) => popular(limited(limits)),
    async score({ items, ...subject }) {
      const candidates = rowsOf(items);
      return scored((await subjectFeed(subject))[0], candidates);
    },
    async similar(item, limits = {}) {
      const [k, may, out, gone] = limited(limits);
      const row = known(items, item, "item");
      gone.add(row);
      // The graph takes no lists: it ranks as many more items as lists leave out.
      const best = await ranked("similar", { item: [[row], [1]] }, Math.min(k + out().length - 1, rows), rows - 1);
      return answer(best.filter(([row]) => may(row)).slice(0, k));
    },
    async encode(history, options) {
      const [{ vector }] = await subjectFeed({ ...options, history });
      return (vector?.[0] as Float32Array) ?? encoded({}); // fails: there is no encode graph
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
        throw new MissingError(`no history can be stored here: ${firstLine(error)}`);
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
