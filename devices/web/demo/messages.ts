/** What the demo's page and its worker say to each other. */

import type { Id, Metadata } from "../src/index.ts";

export interface Title {
  item: Id;
  title: string;
}

export interface Scored extends Title {
  score: number;
}

/** What the bundle is, and what it took to open it. */
export interface Opened {
  metadata: Metadata;
  /** Milliseconds from the first byte that was asked for to the first answer. */
  ms: number;
  /** Titles to begin with, the most popular first. */
  start: Title[];
  /** What was picked the last time. */
  picks: Title[];
}

export interface Answer {
  best: Scored[];
  ms: number;
  /** Bytes of WebAssembly's memory. */
  heap: number;
  /** What the worker asked of a server so far. */
  requests: number;
}

/** What the page may ask for, each answered with what stands behind it. */
export interface Verbs {
  open(): Opened;
  /** Titles with all the words that are typed. */
  find(text: string): Title[];
  /** Remember or forget an item, and recommend. */
  pick(item: Id, wanted: boolean): Answer;
  /** Never recommend these. */
  dismiss(items: Id[]): Answer;
  forget(): Answer;
}

export type Verb = keyof Verbs;
export type ToWorker = { number: number; verb: Verb; words: unknown[] };
export type FromWorker =
  | { number: number; value: unknown }
  | { number: number; error: string }
  | { doing: string; loaded?: number; total?: number };
