/** A growing history that never leaves the device. Loaded when the first one is opened. */

import type { Id } from "./ids.ts";
import type { Recommendation, Recommender, RecommendOptions } from "./recommender.ts";

/** Persistent storage for a history: the app's own, or `fileStore` in Node. */
export interface HistoryStore {
  /** Return the text that was written last; null if there is none. */
  read(): Promise<string | null>;
  write(text: string): Promise<unknown>;
  remove(): Promise<unknown>;
}

export interface SessionOptions {
  /** A name in the browser's storage, or a store; by default the history is only in memory. */
  store?: string | HistoryStore;
  /** Maximum number of items, of which the latest are remembered; 1000 by default. */
  limit?: number;
}

export interface Session {
  /** Raw ids, the latest last, at most `limit`. Ids that the bundle does not know are stored, but not used. */
  readonly items: readonly Id[];
  /** Add an item, if it is new. @throws RequestError if the bundle does not know it. */
  add(item: Id): Promise<void>;
  /** Forget one item, or all of them, in the store too. */
  forget(item?: Id): Promise<void>;
  /** Recommend for the history. */
  recommend(limits?: RecommendOptions): Promise<Recommendation[]>;
  /** Return the scores of items for the history. */
  score(items: Iterable<Id>): Promise<Float32Array>;
}

/**
 * Open a history. Loaded on first use, and therefore without imports of the rest of the library.
 *
 * @throws RangeError if the store contains something else than a history.
 */
export async function openSession(model: Recommender, { store, limit = 1000 }: SessionOptions): Promise<Session> {
  const place = typeof store === "string" ? browserStore(store) : store;
  const text = await place?.read();
  let items: readonly Id[] = text == null ? [] : parsed(text).slice(-limit);
  let last: Promise<unknown> = Promise.resolve();
  const known = () => items.filter(model.has);

  /** Set the items; writes to the store are in order, so that the last one wins. */
  async function become(now: Id[]): Promise<void> {
    items = now;
    last = last.catch(() => undefined).then(() => (now.length > 0 ? place?.write(written(now)) : place?.remove()));
    await last;
  }

  return {
    get items() {
      return items;
    },
    async add(item) {
      model.title(item); // raises the error for an unknown item
      if (!items.includes(plain(item))) {
        await become([...items, plain(item)].slice(-limit));
      }
    },
    forget: (item) => become(item === undefined ? [] : items.filter((one) => one !== plain(item))),
    recommend: (limits) => model.recommend({ ...limits, history: known() }),
    score: (candidates) => model.score({ items: candidates, history: known() }),
  };
}

/** Return an id in the form of answers: 7 for 7n. */
const plain = (item: Id) => (typeof item === "bigint" && Number.isSafeInteger(Number(item)) ? Number(item) : item);

/** Serialise a history as JSON; bigints, which JSON cannot represent, become objects with text. */
function written(items: Id[]): string {
  const plain = items.map((item) => (typeof item === "bigint" ? { int: `${item}` } : item));
  return JSON.stringify({ format: "edgerec.history", version: 1, items: plain });
}

function parsed(text: string): Id[] {
  try {
    const { format, version, items } = JSON.parse(text) as { format: string; version: number; items: (Id | { int: string })[] };
    if (format === "edgerec.history" && version === 1) {
      return items.map((item) => (typeof item === "object" ? plain(BigInt(item.int)) : item));
    }
  } catch {
    // Reported below.
  }
  throw new RangeError("the store holds no history of EdgeRec; remove its content");
}

/** A store in the browser's storage, which pages and workers of one origin share. */
function browserStore(name: string): HistoryStore {
  const place = `/${encodeURIComponent(name)}`;
  const store = () => caches.open("edgerec-histories");
  return {
    read: async () => (await (await store()).match(place))?.text() ?? null,
    write: async (text) => (await store()).put(place, new Response(text)),
    remove: async () => (await store()).delete(place),
  };
}
