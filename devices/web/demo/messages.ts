/** Messages between the demo's page and its worker. */

import type { Id } from "../src/index.ts";

export interface Title {
  item: Id;
  title: string;
}

export interface Scored extends Title {
  score: number;
  /** The title of the pick that speaks most for it; null before there is a pick, and if the bundle cannot say. */
  because: string | null;
}

/** The bundles, and the time that it took to open them. */
export interface Opened {
  /** Bytes of each bundle, the smallest first. */
  sizes: number[];
  items: number;
  /** The bundles have users of their own: what is most like the picks is shown. */
  users: boolean;
  /** Titles of which the bundles know how popular they are; 0 if they do not say. */
  popular: number;
  /** Milliseconds from the first byte to the first answer. */
  ms: number;
  /** Picks of the last visit. */
  picks: Title[];
}

export interface Answer {
  best: Scored[];
  /** How many of them the largest bundle recommends too; null if it answered, and before there is a pick. */
  shared: number | null;
  ms: number;
  /** Bytes of WebAssembly's memory. */
  heap: number;
  /** Requests of the worker so far. */
  requests: number;
}

/** Questions of the page, each with the type of its answer. */
export interface Verbs {
  open(): Opened;
  /** Titles with all the typed words. */
  find(text: string): Title[];
  /** Remember or forget an item, and recommend. */
  pick(item: Id, wanted: boolean): Answer;
  /** Never recommend these. */
  dismiss(items: Id[]): Answer;
  forget(): Answer;
  /** Recommend from bundle number `bundle`, and add `dial` times an item's popularity, 0 to 1, to its score, 0 to 1. */
  tune(bundle: number, dial: number): Answer;
}

export type Verb = keyof Verbs;
export type ToWorker = { number: number; verb: Verb; words: unknown[] };
export type FromWorker =
  | { number: number; value: unknown }
  | { number: number; error: string }
  | { doing: string; loaded?: number; total?: number };
