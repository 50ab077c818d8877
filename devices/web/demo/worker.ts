/** The demo's worker: the recommender itself. All that it knows stays in this browser. */

import { watchHeap } from "../bench/heap.ts";
import { load, type Id, type Recommendation, type Recommender, type Session } from "../src/kernel-index.ts";
import { openSession } from "../src/session.ts";
import type { Answer, FromWorker, Opened, Scored, Title, ToWorker, Verbs } from "./messages.ts";

const SHOWN = 12;
const FOUND = 8;
/** Neighbours of each picked item, in bundles with users. */
const NEIGHBOURS = 50;
/** The best items that the popularity dial orders again. */
const CANDIDATES = 200;
/** As many as the exporter lists. */
const POPULAR = 1000;
/** The build for every browser: one is stored for visits without a network. */
const KERNEL = "edgerec-kernel.wasm";
/** The latest picks, one of which is the reason for a recommendation. */
const REASONS = 20;

const heap = watchHeap(null);

/** One catalogue in bundles of several sizes, the smallest first. */
let models: Recommender[] = [];
let model: Recommender;
/** The bundle with titles, if one has them. */
let titles: Recommender;
let picks: Session;
/** Places of the popular items, the most popular first; empty if no bundle says which they are. */
let popular = new Map<Id, number>();
/** Items for a list without picks: the popular ones, or some of all. */
let start: Id[] = [];
/** The words of every item's title, a space before each; the most popular first, as far as that is known. */
let index: { item: Id; words: string }[] = [];
let dismissed: Id[] = [];
let dial = 0;

const verbs: { [Name in keyof Verbs]: (...words: Parameters<Verbs[Name]>) => Promise<ReturnType<Verbs[Name]>> } = {
  async open(): Promise<Opened> {
    const started = performance.now();
    const bundles = new URL("bundle/", location.href);
    const names = (await (await fetch(new URL("list.json", bundles))).json()) as string[];
    for (const [at, name] of names.entries()) {
      const doing = names.length > 1 ? `Fetching size ${at + 1} of ${names.length}` : "Fetching the recommender";
      say({ doing });
      const onProgress = ({ loaded, total }: { loaded: number; total: number }) => say({ doing, loaded, total });
      models.push(await load(new URL(`${name}/`, bundles), { onProgress, kernel: KERNEL }));
    }
    say({ doing: "Starting" });
    model = models[0]!;
    titles = models.find(({ metadata }) => metadata.titles) ?? model;
    // Picks of one bundle's data, at this address: another one's ids mean other items.
    picks = await openSession(model, { store: `demo ${location.pathname} ${model.metadata.about["data"] ?? ""}` });
    const items = model.items();
    popular = new Map((await mostPopular()).map((item, place) => [item, place]));
    start = popular.size > 0 ? [...popular.keys()] : spread(items);
    // One answer of each: the browser compiles what it runs now, and the slider does not wait.
    for (const one of models) {
      await reasons(one, await ranked(one, [start[0]!], 1), [start[0]!]);
    }
    const ms = performance.now() - started;
    index = Array.from(new Set([...start, ...items]), (item) => ({ item, words: ` ${plain(titleOf(item))}` }));
    return {
      sizes: models.map(({ metadata }) => metadata.bytes),
      items: items.length,
      users: models.some(hasUsers),
      popular: popular.size,
      ms,
      picks: known().map(titled),
    };
  },
  async find(text) {
    const words = plain(text).split(" ").filter(Boolean);
    const having = (before: string) => index.filter((one) => words.every((word) => one.words.includes(before + word)));
    const found = new Set([...having(" "), ...having("")]); // words that begin so, before those that have it inside
    return [...found].slice(0, FOUND).map(({ item }) => titled(item));
  },
  async pick(item, wanted) {
    await (wanted ? picks.add(item) : picks.forget(item));
    return answer();
  },
  async dismiss(items) {
    dismissed = items.filter(model.has);
    return answer();
  },
  async forget() {
    await picks.forget();
    dismissed = [];
    return answer();
  },
  async tune(bundle, factor) {
    model = models[bundle]!;
    dial = factor;
    return answer();
  },
};

const hasUsers = ({ metadata }: Recommender) => metadata.users > 0;

const known = () => picks.items.filter(model.has);

async function answer(): Promise<Answer> {
  const [one, largest, liked] = [model, models.at(-1)!, known()]; // they may change while this one is computed
  const started = performance.now();
  const best = await ranked(one, liked, SHOWN);
  const ms = performance.now() - started;
  const also = one === largest || liked.length === 0 ? null : new Set((await ranked(largest, liked, SHOWN)).map(({ item }) => item));
  return {
    best: await reasons(one, best, liked),
    shared: also && best.filter(({ item }) => also.has(item)).length,
    ms,
    heap: heap(),
    requests: performance.getEntriesByType("resource").length,
  };
}

/** The k best items for someone who likes these; without any, the popular ones. */
async function ranked(one: Recommender, liked: Id[], k: number): Promise<Recommendation[]> {
  const wide = dial === 0 ? k : CANDIDATES;
  const limits = { k: Math.min(wide, one.metadata.items), exclude: dismissed };
  const found =
    liked.length === 0
      ? start.filter((item) => !dismissed.includes(item)).map((item) => ({ item, score: 0 }))
      : hasUsers(one)
        ? await alike(one, liked, limits)
        : await one.recommend({ history: liked, ...limits });
  return (dial === 0 ? found : turned(found)).slice(0, k);
}

/** A bundle with users knows nobody who comes to this page: what is most like the picks, by the mean of cosines. */
async function alike(one: Recommender, liked: Id[], { k, exclude }: { k: number; exclude: Id[] }): Promise<Recommendation[]> {
  const sums = new Map<Id, number>();
  const without = new Set([...exclude, ...liked]);
  for (const pick of liked) {
    for (const { item, score } of await neighbours(one, pick)) {
      if (!without.has(item)) {
        sums.set(item, (sums.get(item) ?? 0) + score);
      }
    }
  }
  const ranking = [...sums].sort(([, one], [, other]) => other - one).slice(0, k);
  return ranking.map(([item, sum]) => ({ item, score: sum / liked.length }));
}

const neighbours = (one: Recommender, pick: Id) => one.similar(pick, Math.min(NEIGHBOURS, one.metadata.items));

/** The ranking ordered again: scores from 0 to 1, and `dial` times the popularity added. */
function turned(ranking: Recommendation[]): Recommendation[] {
  const scores = ranking.map(({ score }) => score);
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const again = ranking.map(({ item, score }) => {
    const own = high > low ? (score - low) / (high - low) : 0;
    return { item, score: own + dial * popularityOf(item) };
  });
  const least = Math.min(...again.map(({ score }) => score));
  return again.sort((one, other) => other.score - one.score).map(({ item, score }) => ({ item, score: score - least }));
}

/** 1 for the most popular item, 0 for those that are not listed; between them the logarithm of the place decides. */
function popularityOf(item: Id): number {
  const place = popular.get(item);
  return place === undefined ? 0 : 1 - Math.log(place + 1) / Math.log(popular.size + 1);
}

/** With each item the pick that speaks most for it: alone, it would give the item the highest score. */
async function reasons(one: Recommender, ranking: Recommendation[], liked: Id[]): Promise<Scored[]> {
  const items = ranking.map(({ item }) => item);
  const most = items.map(() => -Infinity);
  const because: (string | null)[] = items.map(() => null);
  const can = (graph: string) => one.metadata.graphs.includes(graph);
  for (const pick of items.length > 0 ? liked.slice(-REASONS) : []) {
    let scores: ArrayLike<number | undefined> = [];
    if (!hasUsers(one) && can("score")) {
      scores = await one.score({ history: [pick], items });
    } else if (can("similar")) {
      const near = new Map((await neighbours(one, pick)).map(({ item, score }) => [item, score]));
      scores = items.map((item) => near.get(item));
    }
    items.forEach((_, at) => {
      if ((scores[at] ?? -Infinity) > most[at]!) {
        most[at] = scores[at]!;
        because[at] = titleOf(pick);
      }
    });
  }
  return ranking.map(({ item, score }, at) => ({ ...titled(item), score, because: because[at]! }));
}

/** The most popular items, of the first bundle that says which they are. */
async function mostPopular(): Promise<Id[]> {
  for (const one of models.filter((one) => !hasUsers(one))) {
    const found = await one.recommend({ history: [], k: Math.min(POPULAR, one.metadata.items) }).catch(() => []);
    if (found.length > 0) {
      return found.map(({ item }) => item);
    }
  }
  return [];
}

/** Some of all, evenly: for bundles that do not say which are popular. */
function spread(items: Id[]): Id[] {
  const step = Math.max(1, Math.floor(items.length / SHOWN));
  return items.filter((_, at) => at % step === 0).slice(0, SHOWN);
}

function titleOf(item: Id): string {
  return titles.title(item) ?? `Item ${item}`;
}

function titled(item: Id): Title {
  return { item, title: titleOf(item) };
}

/** The form that is searched: lower case, without accents and punctuation. */
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
