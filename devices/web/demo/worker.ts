/** The demo's worker: the recommender itself. All that it knows stays in this browser. */

import * as ort from "onnxruntime-web/wasm";

import { watchHeap } from "../bench/heap.ts";
import { load, type Id, type Limits, type Recommender, type Session } from "../src/index.ts";
import { openSession } from "../src/session.ts";
import type { Answer, FromWorker, Opened, Scored, Title, ToWorker, Verbs } from "./messages.ts";

const SHOWN = 12;
const FOUND = 8;
/** Of each picked item's neighbours, in bundles with users. */
const NEIGHBOURS = 50;

const heap = watchHeap(null);
ort.env.wasm.wasmPaths = new URL("ort/", location.href).href;
ort.env.wasm.numThreads = 1;
ort.env.logLevel = "error";

let model: Recommender;
let history: Picks;
/** The words of every item's title, a space before each; the most popular first, as far as that is known. */
let index: { item: Id; words: string }[] = [];
let dismissed: Id[] = [];

/** Picks, and what follows from them. */
type Picks = Pick<Session, "items" | "add" | "forget" | "recommend">;

/** Picks of one bundle's data, at this address: another one's ids mean other items. */
const place = () => `demo ${location.pathname} ${model.metadata.about["data"] ?? ""}`;

/** A bundle with users knows nobody who comes to this page: what is most like the picks, by the mean of cosines. */
async function byLikeness(): Promise<Picks> {
  const kept = await openSession(model, { store: place() });
  return {
    get items() {
      return kept.items;
    },
    add: kept.add,
    forget: kept.forget,
    async recommend({ k = SHOWN, exclude = [] }: Limits = {}) {
      const picked = kept.items.filter(model.has);
      const sums = new Map<Id, number>();
      const without = new Set([...exclude, ...picked]);
      for (const pick of picked) {
        for (const { item, score } of await model.similar(pick, Math.min(NEIGHBOURS, model.metadata.items))) {
          if (!without.has(item)) {
            sums.set(item, (sums.get(item) ?? 0) + score);
          }
        }
      }
      const ranking = [...sums].sort(([, one], [, other]) => other - one).slice(0, k);
      return ranking.map(([item, sum]) => ({ item, score: sum / picked.length }));
    },
  };
}

const verbs: { [Name in keyof Verbs]: (...words: Parameters<Verbs[Name]>) => Promise<ReturnType<Verbs[Name]>> } = {
  async open(): Promise<Opened> {
    const started = performance.now();
    say({ doing: "Fetching the recommender" });
    model = await load(new URL("bundle/", location.href), {
      runtime: ort,
      onProgress: ({ loaded, total }) => say({ doing: "Fetching the recommender", loaded, total }),
    });
    say({ doing: "Starting onnxruntime" });
    history = model.metadata.users > 0 ? await byLikeness() : await model.session({ store: place() });
    const items = model.items();
    const start = model.metadata.users > 0 ? spread(items) : (await popular()).map(({ item }) => item);
    // One answer opens the graphs: what is asked of a server is asked now.
    await (model.metadata.users > 0 ? model.similar(start[0]!, 1) : model.recommend({ history: [start[0]!], k: 1 }));
    const ms = performance.now() - started;
    const order = new Set([...start, ...items]);
    index = Array.from(order, (item) => ({ item, words: ` ${plain(titleOf(item))}` }));
    return { metadata: model.metadata, ms, start: start.slice(0, FOUND).map(titled), picks: history.items.filter(model.has).map(titled) };
  },
  async find(text) {
    const words = plain(text).split(" ").filter(Boolean);
    const having = (before: string) => index.filter((one) => words.every((word) => one.words.includes(before + word)));
    const found = new Set([...having(" "), ...having("")]); // words that begin so, before those that have it inside
    return [...found].slice(0, FOUND).map(({ item }) => titled(item));
  },
  async pick(item, wanted) {
    await (wanted ? history.add(item) : history.forget(item));
    return answer();
  },
  async dismiss(items) {
    dismissed = items.filter(model.has);
    return answer();
  },
  async forget() {
    await history.forget();
    dismissed = [];
    return answer();
  },
};

async function answer(): Promise<Answer> {
  const k = Math.min(SHOWN, model.metadata.items);
  const started = performance.now();
  const best = history.items.length > 0 ? await history.recommend({ k, exclude: dismissed }) : [];
  const ms = performance.now() - started;
  const requests = performance.getEntriesByType("resource").length;
  return { best: best.map(({ item, score }): Scored => ({ ...titled(item), score })), ms, heap: heap(), requests };
}

/** The most popular items, where the bundle says which they are. */
async function popular(): Promise<{ item: Id }[]> {
  const k = Math.min(200, model.metadata.items);
  return model.recommend({ history: [], k }).catch(() => spread(model.items()).map((item) => ({ item })));
}

/** Some of all, evenly: where nothing says which are popular. */
function spread(items: Id[]): Id[] {
  const step = Math.max(1, Math.floor(items.length / FOUND));
  return items.filter((_, at) => at % step === 0).slice(0, FOUND);
}

function titleOf(item: Id): string {
  return model.title(item) ?? `Item ${item}`;
}

function titled(item: Id): Title {
  return { item, title: titleOf(item) };
}

/** As it is searched for: lower case, without accents and punctuation. */
function plain(text: string): string {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().replace(/[^\p{L}\p{N}]+/gu, " ").trim();
}

function say(message: FromWorker): void {
  postMessage(message);
}

onmessage = async ({ data: { number, verb, words } }: MessageEvent<ToWorker>) => {
  try {
    const act = verbs[verb] as (...words: unknown[]) => Promise<unknown>;
    say({ number, value: await act(...words) });
  } catch (error) {
    say({ number, error: (error as Error).message });
  }
};

