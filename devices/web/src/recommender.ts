/** The recommender, the main interface for apps: raw ids in, raw ids out. */

import { demandSound, finite, firstLine, MissingError, RequestError } from "./errors.ts";
import type { Id, Ids } from "./ids.ts";
import type { Metadata } from "./manifest.ts";
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

export interface RecommendOptions extends Limits {
  /**
   * How much rare items come first, -2 to 2; 0 by default. Above 0 rare items come more often, below 0 popular ones: a score
   * above 0 is multiplied by `(w / m) ** rarity`, and another one divided by it. `w` is the weight of the item in a history,
   * which is larger for rare items, and `m` the largest weight of all items, or the smallest for a rarity below 0. Only for
   * a bundle that has these weights: without users, of svd, of lae with the encoder 'sum', or with a fitted linear encoder.
   * Popular items, which answer an empty history, stay as they are.
   */
  rarity?: number;
}

export interface Recommender {
  readonly metadata: Metadata;
  /**
   * Return the k best items, best first; fewer if fewer are left. For an empty history every score is 0 and the most
   * popular items come first.
   *
   * @throws RequestError an unknown user or item, k outside 1..items, the wrong one of user, history and vector, or an
   *   empty history if the bundle does not list popular items, or a rarity that the bundle does not take. BundleError an invalid answer of the bundle: unknown rows, or
   *   numbers that are not finite.
   */
  recommend(request: Subject & RecommendOptions): Promise<Recommendation[]>;
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
  /** Return an item's attributes besides its title, by their names; those that it has. @throws RequestError like `title`. */
  attributes(item: Id): Record<string, string>;
  /**
   * Return the ids of the items, by row, whose attribute is `value`, or that have it among parts separated by `|`: a list
   * for `allow`. @throws RequestError if the bundle has no such attribute, or for an empty value.
   */
  itemsWith(name: string, value: string): Id[];
  /** Return true if the bundle knows an item. */
  has(item: Id): boolean;
  /** Return the id of every item, by row. */
  items(): Id[];
  /** Open a growing history. @throws RequestError for a bundle with users, or a limit below 1; MissingError of its store. */
  session(options?: SessionOptions): Promise<Session>;
  /** Release the memory of onnxruntime, or of the kernel; later calls are errors. */
  close(): Promise<void>;
}

/** Rows and their scores, best first. */
export type Ranking = [row: number, score: number][];

/** Whom an answer is for, in bundle rows: exactly one of these. */
export interface RowSubject {
  user?: number | undefined;
  /** Each row once. */
  history?: number[] | undefined;
  vector?: ArrayLike<number> | undefined;
}

/** What limits an answer, in bundle rows. */
export interface RowLimits {
  k: number;
  gone: Set<number>;
  /** null for all rows. */
  allowed: Set<number> | null;
}

/** An open bundle that answers in rows: by its graphs (`graph-rows.ts`), or by the kernel. */
export interface RowModel {
  readonly metadata: Metadata;
  /** Return the raw ids of items or users. */
  ids(side: "item" | "user"): Ids;
  /** Return an item's title; empty if there is none. */
  title(row: number): string;
  /** Return the text of an item's attribute number n; empty if there is none. */
  attribute(row: number, n: number): string;
  /** @param rarity as an app gives it: it is checked here. */
  recommend(subject: RowSubject, limits: RowLimits, rarity?: number): Promise<Ranking>;
  popular(limits: RowLimits): Promise<Ranking>;
  similar(row: number, limits: RowLimits): Promise<Ranking>;
  score(subject: RowSubject, candidates: number[]): Promise<Float32Array>;
  encode(history: number[]): Promise<Float32Array>;
  /** Release all memory; later calls are errors. */
  close(): Promise<void>;
}

export function recommenderOf(rows: RowModel): Recommender {
  const { metadata } = rows;
  const items = rows.ids("item");
  const users = metadata.users > 0 ? rows.ids("user") : null;

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

  function limited(limits: number | Limits): RowLimits {
    const { k = 10, exclude = [], allow, onUnknown } = (Object(limits) === limits ? limits : { k: limits }) as Limits;
    demandWhole("k", k, metadata.items);
    return { k, gone: new Set(rowsOf(exclude, onUnknown)), allowed: allow == null ? null : new Set(rowsOf(allow, onUnknown)) };
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

  function subjectOf({ user, history, vector, onUnknown }: Subject & Unknown): RowSubject {
    if ([user, history, vector].filter((one) => one != null).length !== 1) {
      throw new RequestError("give either a user or a history of item ids or a vector");
    }
    demandUsers(user != null);
    return user != null
      ? { user: known(users!, user, "user") }
      : vector != null
        ? { vector }
        : { history: [...new Set(rowsOf(history!, onUnknown))] };
  }

  function answer(ranking: Ranking): Recommendation[] {
    return ranking.map(([row, score]) => {
      demandSound(row >= 0 && row < metadata.items && Number.isFinite(score));
      return { item: items.id(row), score };
    });
  }

  const model: Recommender = {
    metadata,
    async recommend(request) {
      const limits = limited(request);
      return answer(await rows.recommend(subjectOf(request), limits, request.rarity));
    },
    popular: async (limits = {}) => answer(await rows.popular(limited(limits))),
    async score({ items, ...subject }) {
      const candidates = rowsOf(items);
      return finite(await rows.score(subjectOf(subject), candidates), candidates.length);
    },
    async similar(item, limits = {}) {
      const within = limited(limits);
      return answer(await rows.similar(known(items, item, "item"), within));
    },
    async encode(history, options) {
      const { history: past } = subjectOf({ ...options, history });
      return finite(await rows.encode(past!), metadata.d);
    },
    title(item) {
      const [row] = rowsOf([item]);
      return rows.title(row!) || null;
    },
    attributes(item) {
      const [row] = rowsOf([item]);
      const found = metadata.attributes.map((name, n) => [name, rows.attribute(row!, n)]);
      return Object.fromEntries(found.filter(([, text]) => text)); // which sets a name such as __proto__ as any other
    },
    itemsWith(name, value) {
      const n = metadata.attributes.indexOf(name);
      if (n < 0) {
        throw new RequestError(`this bundle has no attribute '${name}' of items; it has ${metadata.attributes.join(", ") || "none"}`);
      }
      if (!value || typeof value !== "string") {
        throw new RequestError("the value of an attribute must be a text that is not empty");
      }
      const has = (text: string) => text === value || text.split("|").includes(value);
      return [...Array(metadata.items).keys()].filter((row) => has(rows.attribute(row, n))).map(items.id);
    },
    has: (item) => items.row(item) >= 0,
    items: () => Array.from({ length: metadata.items }, (_, row) => items.id(row)),
    async session(options = {}) {
      demandUsers(false);
      demandWhole("the limit", options.limit ?? 1, Infinity);
      try {
        return await (await import("./session.ts")).openSession(model, options);
      } catch (error) {
        throw new MissingError(`no history can be stored here: ${firstLine(error)}`);
      }
    },
    close: rows.close,
  };
  return model;
}

function known(ids: Ids, id: Id, what: "item" | "user"): number {
  const row = ids.row(id);
  if (row < 0) {
    throw new RequestError(`${what} ${typeof id === "string" ? `'${id}'` : id} is not in the bundle; see has(), onUnknown, popular()`);
  }
  return row;
}
