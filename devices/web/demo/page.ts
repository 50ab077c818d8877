/** The demo's page: its lists, buttons and sliders. The recommender is in the worker. */

import type { Id } from "../src/index.ts";
import type { Answer, FromWorker, Opened, Scored, Title, ToWorker, Verb, Verbs } from "./messages.ts";

const worker = new Worker("worker.mjs", { type: "module" });
const waiting = new Map<number, { resolve: (value: never) => void; reject: (reason: Error) => void }>();
const picks = new Map<string, Title>();
const dismissed = new Map<string, Title>();
let found: Title[] = [];
let best: Scored[] = [];
/** Bytes of the bundles, the smallest first. */
let sizes: number[] = [];
/** The bundles say which titles are popular. */
let popular = false;
/** Number of the last search: answers to earlier letters come late. */
let typed = 0;
/** Number of the last request for recommendations: answers to earlier ones are not shown. */
let newest = 0;
/** Requests of page and worker when all was there. */
let before: number | undefined;

worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
  if ("doing" in data) {
    progress(data.doing, data.loaded, data.total);
    return;
  }
  const question = waiting.get(data.number)!;
  waiting.delete(data.number);
  if ("error" in data) {
    question.reject(new Error(data.error));
  } else {
    question.resolve(data.value as never);
  }
};
worker.onerror = ({ message }) => fail(new Error(message || "the worker could not be loaded"));

function ask<Name extends Verb>(verb: Name, ...words: Parameters<Verbs[Name]>): Promise<ReturnType<Verbs[Name]>> {
  const number = (questions += 1);
  const message: ToWorker = { number, verb, words };
  worker.postMessage(message);
  return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
}
let questions = 0;

function element<Kind extends Element = HTMLElement>(id: string): Kind {
  return document.getElementById(id) as unknown as Kind;
}

/** A new element; of its properties, `class` and `aria-...` are attributes. */
function create(kind: string, attributes: Record<string, string> = {}, ...inside: (Node | string)[]): HTMLElement {
  const one = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) {
    one.setAttribute(name, value);
  }
  one.append(...inside);
  return one;
}

/** 'Matrix, The (1999)' as people say it, and the year apart. */
function spoken(title: string): [name: string, year: string] {
  const [, named = title, year = ""] = /^(.*\S) \((\d{4})\)$/.exec(title) ?? [];
  const [, name, article] = /^(.*), (The|A|An|Les?|La|Il|Das|Der|Die|El)$/.exec(named) ?? [];
  return [name ? `${article} ${name}` : named, year];
}

const key = (item: Id) => `${typeof item}:${item}`;

const ICONS = {
  like: "M12 20.3l-1.3-1.2C6 14.9 3 12.2 3 8.9 3 6.2 5.1 4.1 7.8 4.1c1.5 0 3 .7 4.2 1.9 1.2-1.2 2.7-1.9 4.2-1.9 2.7 0 4.8 2.1 4.8 4.8 0 3.3-3 6-7.7 10.2z",
  dismiss: "M6.4 5L12 10.6 17.6 5 19 6.4 13.4 12 19 17.6 17.6 19 12 13.4 6.4 19 5 17.6 10.6 12 5 6.4z",
};

function button(icon: keyof typeof ICONS, label: string, pressed: boolean | null, act: () => void): HTMLElement {
  const drawing = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  drawing.setAttribute("viewBox", "0 0 24 24");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[icon]);
  drawing.append(path);
  const one = create("button", { type: "button", class: `icon ${icon}`, "aria-label": label, title: label }, drawing);
  if (pressed !== null) {
    one.setAttribute("aria-pressed", String(pressed));
  }
  one.addEventListener("click", act);
  return one;
}

/** A title's own colour, the same each time. */
function tile(name: string): HTMLElement {
  let hash = 7;
  for (const letter of name) {
    hash = (hash * 31 + letter.codePointAt(0)!) % 360;
  }
  const one = create("span", { class: "tile", "aria-hidden": "true" }, [...name.replace(/^(The|A|An) /, "")][0] ?? "");
  one.style.setProperty("--hue", String(hash));
  return one;
}

function row({ item, title }: Title, extra: { share?: number; because?: string | null } | null): HTMLElement {
  const [name, year] = spoken(title);
  const text = create("div", { class: "text" }, create("span", { class: "name" }, name));
  if (year) {
    text.append(create("span", { class: "year" }, year));
  }
  if (extra?.because) {
    text.append(create("span", { class: "because" }, `because you liked ${spoken(extra.because)[0]}`));
  }
  if (extra?.share !== undefined) {
    const bar = create("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", String(Math.max(0.02, extra.share)));
    text.append(bar);
  }
  const liked = picks.has(key(item));
  return create(
    "li",
    { "data-key": key(item) },
    tile(name),
    text,
    button("like", `I like ${name}`, liked, () => void pick({ item, title }, !liked)),
    ...(extra === null ? [] : [button("dismiss", `Not ${name}`, null, () => void dismiss({ item, title }))]),
  );
}

/** Redraw, and leave the focus where it was, or where it makes sense. */
function draw(): void {
  const active = document.activeElement as HTMLElement | null;
  const list = active?.closest("ul, ol")?.id;
  const place = active?.closest("li")?.getAttribute("data-key");
  const kind = active?.classList[1];

  element("found").replaceChildren(...found.map((one) => row(one, null)));
  const chips = [...picks.values()].map((one) => {
    const [name] = spoken(one.title);
    const chip = create("button", { type: "button", class: "chip like", "aria-label": `Take back ${name}` }, name, create("span", { "aria-hidden": "true" }, "×"));
    chip.addEventListener("click", () => void pick(one, false));
    return create("li", { "data-key": key(one.item) }, chip);
  });
  element("picks").replaceChildren(...chips);
  element("mine").hidden = picks.size + dismissed.size === 0;
  element("dismissed").textContent = dismissed.size > 0 ? `${dismissed.size} left out` : "";
  const full = Math.max(...best.map(({ score }) => score));
  const shareOf = ({ score }: Scored) => (full > 0 ? { share: score / full } : {});
  element("best").replaceChildren(...best.map((one) => row(one, { ...shareOf(one), because: one.because })));
  const heading = picks.size > 0 ? "For you" : popular ? "Popular titles" : "Some titles";
  element("best-title").textContent = heading;
  element("empty").hidden = picks.size > 0;
  element("peek").textContent = best[0] ? `${heading}: ${spoken(best[0].title)[0]}` : "";

  if (list && place && !active!.isConnected) {
    const rows = [...element(list).querySelectorAll<HTMLElement>("li")];
    const again = rows.find((one) => one.getAttribute("data-key") === place) ?? rows[0];
    const next = again?.querySelector<HTMLElement>(`.${kind}`) ?? again?.querySelector("button") ?? element("search");
    next.focus({ preventScroll: true });
  }
}

function show(answer: Answer, what: string): void {
  best = answer.best;
  draw();
  const { shared } = answer;
  element("shared").textContent = shared === null ? "" : `${shared} of these ${best.length} are also in the largest one's list.`;
  element("ms").textContent = picks.size > 0 ? milliseconds(answer.ms) : "–";
  element("heap").textContent = bytes(answer.heap);
  if (before !== undefined) {
    element("requests").textContent = String(answer.requests + requests() - before);
  }
  element("said").textContent = best[0] ? `${what} ${best.length} recommendations, first ${spoken(best[0].title)[0]}.` : what;
}

/** Requests of the page's own code so far; the browser's own, for its tab's icon, are not among them. */
function requests(): number {
  const all = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
  return all.filter(({ initiatorType }) => !["other", "link"].includes(initiatorType)).length;
}

/** Show the answer to a question, unless a later one has followed meanwhile. */
async function recommend(what: string, question: () => Promise<Answer>): Promise<void> {
  const now = (newest += 1);
  await attempt(async () => {
    const answer = await question();
    if (now === newest) {
      show(answer, what);
    }
  });
}

async function pick(one: Title, wanted: boolean): Promise<void> {
  if (wanted) {
    picks.set(key(one.item), one);
    dismissed.delete(key(one.item));
  } else {
    picks.delete(key(one.item));
  }
  draw();
  await recommend(wanted ? "Picked." : "Taken back.", () => ask("pick", one.item, wanted));
}

async function dismiss(one: Title): Promise<void> {
  dismissed.set(key(one.item), one);
  await recommend("Left out.", () => ask("dismiss", [...dismissed.values()].map(({ item }) => item)));
}

async function forget(): Promise<void> {
  picks.clear();
  dismissed.clear();
  await recommend("Everything is forgotten.", () => ask("forget"));
  element("search").focus();
}

/** Rank again with the sliders as they stand. */
async function tune(): Promise<void> {
  const bundle = slider("bytes").valueAsNumber;
  const dial = slider("popularity").valueAsNumber;
  size(bundle);
  const way = DIAL[dial + 2]!;
  slider("popularity").setAttribute("aria-valuetext", way);
  element("dial").textContent = way;
  await recommend(`${bytes(sizes[bundle]!)}, ${way}.`, () => ask("tune", bundle, dial * DIAL_STEP));
}

/** Positions of the popularity slider, from -2 to 2, and the factor of one step. */
const DIAL = ["much less known", "less known", "the recommender's own order", "more popular", "much more popular"];
const DIAL_STEP = 0.75;

const slider = (id: string) => element<HTMLInputElement>(id);

/** Say which bundle answers. */
function size(bundle: number): void {
  const [own, largest] = [sizes[bundle]!, sizes.at(-1)!];
  const times = largest / own;
  const text = bundle === sizes.length - 1 ? "the largest" : `${times.toFixed(1)} times smaller than the largest`;
  element("size").textContent = bytes(own);
  element("exact").textContent = own < 1024 ? "" : `${own.toLocaleString("en")} bytes`;
  element("bytes-text").textContent = `${bytes(own)}, ${text}`;
  slider("bytes").setAttribute("aria-valuetext", `${bytes(own)}, ${text}`);
}

async function search(text: string): Promise<void> {
  const now = (typed += 1);
  const typing = text.trim() !== "";
  const shown = typing ? await ask("find", text) : [];
  if (now === typed) {
    found = shown;
    element("found-title").hidden = !typing;
    draw();
    element("found-none").hidden = !typing || found.length > 0;
    element("found-said").textContent = text.trim() ? `${found.length === 0 ? "Nothing" : found.length} found.` : "";
  }
}

async function attempt(act: () => Promise<void>): Promise<void> {
  try {
    await act();
    element("failure").hidden = true;
  } catch (error) {
    fail(error as Error);
  }
}

function fail({ message }: Error): void {
  element("failure").hidden = false;
  element("failure").textContent = `This did not work: ${message}.`;
  element("loading").hidden = true;
}

function progress(doing: string, loaded?: number, total?: number): void {
  element("doing").textContent = doing;
  const bar = element<HTMLProgressElement>("progress");
  if (loaded === undefined || !total) {
    bar.removeAttribute("value");
  } else {
    bar.value = loaded / total;
  }
}

function bytes(count: number): string {
  const units = ["KiB", "MiB", "GiB"];
  const at = Math.min(2, Math.max(0, Math.floor(Math.log2(count) / 10) - 1));
  return count < 1024 ? `${count} B` : `${(count / 1024 ** (at + 1)).toFixed(1)} ${units[at]}`;
}

function milliseconds(ms: number): string {
  return ms < 1000 ? `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function begin(opened: Opened): void {
  sizes = opened.sizes;
  popular = opened.popular > 0;
  opened.picks.forEach((one) => picks.set(key(one.item), one));
  slider("bytes").max = String(sizes.length - 1);
  size(0);
  element("bytes-dial").hidden = sizes.length < 2;
  element("smallest").textContent = bytes(sizes[0]!);
  element("largest").textContent = bytes(sizes.at(-1)!);
  element("popularity-dial").hidden = !popular;
  element("known").textContent = opened.popular.toLocaleString("en");
  element("ready").textContent = milliseconds(opened.ms);
  const way = opened.users ? " It knows its own users, so here it shows what is most like your picks." : "";
  element("about").textContent = `${opened.items.toLocaleString("en")} titles, about ${Math.round(sizes[0]! / opened.items)} bytes each.${way}`;
  element("loading").hidden = true;
  element("app").hidden = false;
}

/** Store the page for the next visit without a network, once all is fetched. */
async function keep(): Promise<void> {
  const state = element("offline");
  if (!("serviceWorker" in navigator)) {
    state.textContent = "needs the network (no https)";
    return;
  }
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
    state.textContent = "works without network";
    state.classList.add("yes");
  } catch {
    state.textContent = "needs the network";
  }
}

/** On a narrow screen the recommendations are below: a line at its lower edge says what is first. */
function peek(): void {
  const seen = ([entry]: IntersectionObserverEntry[]) => {
    element("peek").classList.toggle("away", entry!.isIntersecting || entry!.boundingClientRect.top < 0);
  };
  new IntersectionObserver(seen).observe(element("results"));
}

async function main(): Promise<void> {
  const opened = await ask("open");
  begin(opened);
  element<HTMLInputElement>("search").addEventListener("input", ({ target }) => void search((target as HTMLInputElement).value));
  element("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    element("found").querySelector("button")?.focus();
  });
  element("forget").addEventListener("click", () => void forget());
  for (const id of ["bytes", "popularity"]) {
    slider(id).addEventListener("input", () => void tune());
  }
  peek();
  await search("");
  const first = await ask("dismiss", []);
  show(first, "Ready.");
  await keep();
  before = first.requests + requests();
  element("requests").textContent = "0";
}

void attempt(main);
