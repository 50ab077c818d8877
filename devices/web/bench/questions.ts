/** Random questions to a bundle. */

import type { Manifest } from "../src/manifest.ts";
import type { Feed } from "./graphs.ts";

/** What is asked for: k items, random items excluded, random items of history where there are no users. */
export interface Asked {
  k: number;
  exclude: number;
  history: number;
  seed: number;
}

export class Questions {
  readonly #items: number;
  readonly #users: number;
  readonly #asked: Asked;
  readonly #below: (end: number) => number;

  /** Raises an error where k is more than the items. */
  constructor(manifest: Manifest, asked: Asked) {
    this.#items = manifest.items.rows;
    this.#users = manifest.users?.rows ?? 0;
    this.#asked = asked;
    this.#below = randomBelow(asked.seed);
    if (asked.k > this.#items) {
      throw new Error(`k is ${asked.k} and the bundle has ${this.#items} items; give a -k of at most that`);
    }
  }

  /** What the recommend graph takes. */
  recommend(): Feed {
    return { ...this.#subject(), exclude: [this.#some(this.#asked.exclude)], k: this.#asked.k };
  }

  /** What the score graph takes, with `count` candidates. */
  score(count: number): Feed {
    return { ...this.#subject(), candidates: [this.#some(count)] };
  }

  /** What the encode graph takes. */
  history(): Feed {
    return { history: [this.#some(this.#asked.history)] };
  }

  #subject(): Feed {
    return this.#users > 0 ? { user: [this.#below(this.#users)] } : this.history();
  }

  #some(count: number): number[] {
    return Array.from({ length: count }, () => this.#below(this.#items));
  }
}

/** Random whole numbers below an end, of mulberry32: the same for the same seed. */
export function randomBelow(seed: number): (end: number) => number {
  let state = seed >>> 0;
  return (end) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
  };
}
