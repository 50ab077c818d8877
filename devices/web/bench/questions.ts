/** Random questions to a bundle. */

import type { Calls, Feed } from "./graphs.ts";

/** The sizes of random questions: k items, excluded items, and items of a history if there are no users. */
export interface QuestionSizes {
  k: number;
  exclude: number;
  history: number;
  seed: number;
}

export class Questions {
  readonly #items: number;
  readonly #users: number;
  readonly #sizes: QuestionSizes;
  readonly #below: (end: number) => number;

  /** @throws Error if k is more than the number of items. */
  constructor({ items, users }: Calls["sizes"], sizes: QuestionSizes) {
    this.#items = items;
    this.#users = users;
    this.#sizes = sizes;
    this.#below = randomBelow(sizes.seed);
    if (sizes.k > this.#items) {
      throw new Error(`k is ${sizes.k} and the bundle has ${this.#items} items; give a -k of at most that`);
    }
  }

  /** Return a feed of the recommend graph. */
  recommend(): Feed {
    return { ...this.#subject(), exclude: [this.#some(this.#sizes.exclude)], k: this.#sizes.k };
  }

  /** Return a feed of the score graph with `count` candidates. */
  score(count: number): Feed {
    return { ...this.#subject(), candidates: [this.#some(count)] };
  }

  /** Return a feed of the encode graph. */
  history(): Feed {
    return { history: [this.#some(this.#sizes.history)] };
  }

  #subject(): Feed {
    return this.#users > 0 ? { user: [this.#below(this.#users)] } : this.history();
  }

  #some(count: number): number[] {
    return Array.from({ length: count }, () => this.#below(this.#items));
  }
}

/** Return a generator of random whole numbers below an end (mulberry32), the same for the same seed. */
export function randomBelow(seed: number): (end: number) => number {
  let state = seed >>> 0;
  return (end) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
  };
}
