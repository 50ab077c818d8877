/** The demo's page: what is seen and pressed. The recommender is in the worker. */

import type { Id } from "../src/index.ts";
import type { Answer, FromWorker, Opened, Scored, Title, ToWorker, Verb, Verbs } from "./messages.ts";

const worker = new Worker("worker.mjs", { type: "module" });
const waiting = new Map<number, { resolve: (value: never) => void; reject: (reason: Error) => void }>();
const picks = new Map<string, Title>();
const dismissed = new Map<string, Title>();
let start: Title[] = [];
let found: Title[] = [];
let best: Scored[] = [];
/** Of what is typed: answers to earlier letters come late. */
let typed = 0;
/** What page and worker had asked of a server when all was there. */
let before: number | undefined;

worker.onmessage = ({ data }: MessageEvent<FromWorker>) => {
  if ("doing" in data) {
    progress(data.doing, data.loaded, data.total);
    return;
  }
  const asked = waiting.get(data.number)!;
  waiting.delete(data.number);
  if ("error" in data) {
    asked.reject(new Error(data.error));
  } else {
    asked.resolve(data.value as never);
  }
};
worker.onerror = ({ message }) => fail(new Error(message || "the worker could not be loaded"));

function ask<Name extends Verb>(verb: Name, ...words: Parameters<Verbs[Name]>): Promise<ReturnType<Verbs[Name]>> {
  const number = (asked += 1);
  const message: ToWorker = { number, verb, words };
  worker.postMessage(message);
  return new Promise((resolve, reject) => waiting.set(number, { resolve, reject }));
}
let asked = 0;

function element<Kind extends Element = HTMLElement>(id: string): Kind {
  return document.getElementById(id) as unknown as Kind;
}

/** A new element; of its properties, `class` and `aria-...` are attributes. */
function made(kind: string, attributes: Record<string, string> = {}, ...inside: (Node | string)[]): HTMLElement {
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
  const one = made("button", { type: "button", class: `icon ${icon}`, "aria-label": label, title: label }, drawing);
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
  const one = made("span", { class: "tile", "aria-hidden": "true" }, [...name.replace(/^(The|A|An) /, "")][0] ?? "");
  one.style.setProperty("--hue", String(hash));
  return one;
}

function row({ item, title }: Title, extra: { score?: number; full?: number; place?: number }): HTMLElement {
  const [name, year] = spoken(title);
  const text = made("div", { class: "text" }, made("span", { class: "name" }, name));
  if (year) {
    text.append(made("span", { class: "year" }, year));
  }
  if (extra.score !== undefined) {
    const bar = made("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", String(Math.max(0.02, extra.score / extra.full!)));
    text.append(bar);
  }
  const liked = picks.has(key(item));
  return made(
    "li",
    { "data-key": key(item) },
    tile(name),
    text,
    button("like", `I like ${name}`, liked, () => void pick({ item, title }, !liked)),
    ...(extra.score === undefined ? [] : [button("dismiss", `Not ${name}`, null, () => void dismiss({ item, title }))]),
  );
}

/** Redraw, and leave the focus where it was, or where it makes sense. */
function draw(): void {
  const active = document.activeElement as HTMLElement | null;
  const list = active?.closest("ul, ol")?.id;
  const place = active?.closest("li")?.getAttribute("data-key");
  const kind = active?.classList[1];

  element("found").replaceChildren(...found.map((one) => row(one, {})));
  element("found-none").hidden = found.length > 0;
  const chips = [...picks.values()].map((one) => {
    const [name] = spoken(one.title);
    const chip = made("button", { type: "button", class: "chip like", "aria-label": `Take back ${name}` }, name, made("span", { "aria-hidden": "true" }, "×"));
    chip.addEventListener("click", () => void pick(one, false));
    return made("li", { "data-key": key(one.item) }, chip);
  });
  element("picks").replaceChildren(...chips);
  element("mine").hidden = picks.size + dismissed.size === 0;
  element("dismissed").textContent = dismissed.size > 0 ? `${dismissed.size} left out` : "";
  const full = Math.max(...best.map(({ score }) => score), Number.MIN_VALUE);
  element("best").replaceChildren(...best.map((one) => row(one, { score: one.score, full })));
  element("empty").hidden = picks.size > 0;
  element("peek").textContent = best[0] ? `For you: ${spoken(best[0].title)[0]}` : "";

  if (list && place && !active!.isConnected) {
    const rows = [...element(list).querySelectorAll<HTMLElement>("li")];
    const again = rows.find((one) => one.getAttribute("data-key") === place) ?? rows[0];
    const next = again?.querySelector<HTMLElement>(`.${kind}`) ?? again?.querySelector("button") ?? element("search");
    next.focus({ preventScroll: true });
  }
}

function tell(answer: Answer, what: string): void {
  best = answer.best;
  draw();
  element("ms").textContent = picks.size > 0 ? milliseconds(answer.ms) : "–";
  element("heap").textContent = bytes(answer.heap);
  if (before !== undefined) {
    element("requests").textContent = String(answer.requests + requests() - before);
  }
  element("said").textContent = best[0] ? `${what} ${best.length} recommendations, first ${spoken(best[0].title)[0]}.` : what;
}

/** What the page's own code asked of a server so far; what a browser fetches by itself, its tab's icon, is not. */
function requests(): number {
  const all = performance.getEntriesByType("resource") as PerformanceResourceTiming[];
  return all.filter(({ initiatorType }) => !["other", "link"].includes(initiatorType)).length;
}

async function pick(one: Title, wanted: boolean): Promise<void> {
  if (wanted) {
    picks.set(key(one.item), one);
    dismissed.delete(key(one.item));
  } else {
    picks.delete(key(one.item));
  }
  draw();
  await attempt(async () => tell(await ask("pick", one.item, wanted), wanted ? "Picked." : "Taken back."));
}

async function dismiss(one: Title): Promise<void> {
  dismissed.set(key(one.item), one);
  await attempt(async () => tell(await ask("dismiss", [...dismissed.values()].map(({ item }) => item)), "Left out."));
}

async function forget(): Promise<void> {
  picks.clear();
  dismissed.clear();
  await attempt(async () => tell(await ask("forget"), "Everything is forgotten."));
  element("search").focus();
}

async function search(text: string): Promise<void> {
  const now = (typed += 1);
  const shown = text.trim() ? await ask("find", text) : start;
  if (now === typed) {
    found = shown;
    element("found-title").textContent = text.trim() ? "Found" : "To begin with";
    draw();
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
  const [size, unit] = count < 1e6 ? [count / 1e3, "KB"] : [count / 1e6, "MB"];
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} ${unit}`;
}

function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
}

function show({ metadata, ms, start: first, picks: past }: Opened): void {
  start = first;
  past.forEach((one) => picks.set(key(one.item), one));
  element("size").textContent = bytes(metadata.bytes);
  element("ready").textContent = milliseconds(ms);
  const kind = `${metadata.layout} ${metadata.precision}, ${metadata.d} dimensions`;
  const way = metadata.users > 0 ? "; it knows its own users, so here it shows what is most like your picks" : "";
  element("about").textContent = `${metadata.items.toLocaleString("en")} titles, ${kind}${way}.`;
  element("loading").hidden = true;
  element("app").hidden = false;
}

/** Kept for the next visit without a network, once all is fetched. */
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

/** On a narrow screen the recommendations are below: a line at its lower edge tells what is first. */
function peek(): void {
  const seen = ([entry]: IntersectionObserverEntry[]) => {
    element("peek").classList.toggle("away", entry!.isIntersecting || entry!.boundingClientRect.top < 0);
  };
  new IntersectionObserver(seen).observe(element("results"));
}

async function main(): Promise<void> {
  const opened = await ask("open");
  show(opened);
  element<HTMLInputElement>("search").addEventListener("input", ({ target }) => void search((target as HTMLInputElement).value));
  element("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    element("found").querySelector("button")?.focus();
  });
  element("forget").addEventListener("click", () => void forget());
  peek();
  await search("");
  const first = await ask("dismiss", []);
  tell(first, "Ready.");
  await keep();
  before = first.requests + requests();
  element("requests").textContent = "0";
}

void attempt(main);
