/** A history that grows on the device and never leaves it. Loaded when the first is opened. */

import type { Id } from "./ids.ts";
import type { Limits, Recommendation, Recommender } from "./recommender.ts";

/** Where a history outlives the page: an app's own place, or in Node `fileStore`. */
export interface HistoryStore {
  /** What was written last; null where there is nothing. */
  read(): Promise<string | null>;
  write(text: string): Promise<unknown>;
  remove(): Promise<unknown>;
}

export interface SessionOptions {
  /** Where the history is kept: a name in the browser's own storage, or a store; in memory alone. */
  store?: string | HistoryStore;
  /** Items that are remembered at most, the latest; 1000. */
  limit?: number;
}

export interface Session {
  /** Raw ids, the latest last, at most the limit. Those that the bundle does not know (any more) are kept, and not asked with. */
  readonly items: readonly Id[];
  /** Remember an item, once. @throws RequestError where the bundle does not know it. */
  add(item: Id): Promise<void>;
  /** Forget one item, or without one all of them, in the store too. */
  forget(item?: Id): Promise<void>;
  /** As the recommender does, with the items so far for a history. */
  recommend(limits?: Limits): Promise<Recommendation[]>;
  /** The same for scores. */
  score(items: Iterable<Id>): Promise<Float32Array>;
}

/**
 * Without what the rest imports, since it is loaded alone.
 *
 * @throws RangeError where something else than a history is in the store.
 */
export async function openSession(model: Recommender, { store, limit = 1000 }: SessionOptions): Promise<Session> {
  const place = typeof store === "string" ? browserStore(store) : store;
  const text = await place?.read();
  let items: readonly Id[] = text == null ? [] : parsed(text).slice(-limit);
  let last: Promise<unknown> = Promise.resolve();
  const known = () => items.filter(model.has);

  /** Writes one after the other, so that the last one wins. */
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
      model.title(item); // an unknown one is an error of its
      if (!items.includes(plain(item))) {
        await become([...items, plain(item)].slice(-limit));
      }
    },
    forget: (item) => become(item === undefined ? [] : items.filter((one) => one !== plain(item))),
    recommend: (limits) => model.recommend({ ...limits, history: known() }),
    score: (asked) => model.score({ items: asked, history: known() }),
  };
}

/** An id as answers have it: 7n is 7. */
const plain = (item: Id) => (typeof item === "bigint" && Number.isSafeInteger(Number(item)) ? Number(item) : item);

/** JSON; whole numbers that JavaScript's JSON would round are text of a kind of their own. */
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
    // Told below.
  }
  throw new RangeError("what is kept is no history of EdgeRec; remove it from its store");
}

/** The browser's own storage, which pages and workers of one origin share. */
function browserStore(name: string): HistoryStore {
  const place = `/${encodeURIComponent(name)}`;
  const store = () => caches.open("edgerec-histories");
  return {
    read: async () => (await (await store()).match(place))?.text() ?? null,
    write: async (text) => (await store()).put(place, new Response(text)),
    remove: async () => (await store()).delete(place),
  };
}
