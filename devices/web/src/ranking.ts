/**
 * Rankings without a graph: the best items of an allow-list, and the answer to an empty history. Loaded on first use, and
 * therefore without imports of the rest of the library.
 */

import type { Bundle } from "./bundle.ts";
import type { EdgeRecError } from "./errors.ts";

/** Rows and their scores, best first. */
export type Ranking = [row: number, score: number][];

/** Return the k best rows by score; among equal scores the lower row comes first. */
export function bestOf(rows: number[], scores: ArrayLike<number>, k: number): Ranking {
  const ranking = rows.map((row, at): Ranking[0] => [row, scores[at]!]);
  return ranking.sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, k);
}

/** Return the k most popular items, then others by row, all with score 0, which is the score without a history. */
export function popularOf(bundle: Bundle, allowed: (row: number) => boolean, k: number, RequestError: typeof EdgeRecError): Ranking {
  const { popular, items, sections } = bundle.manifest;
  if (popular == null) {
    throw new RequestError("the history is empty, and the bundle names no popular items");
  }
  const count = sections.get(popular)![2][0]!;
  const value = bundle.section(popular);
  const rows = new Set<number>();
  for (let n = 0; n < count + items.rows && rows.size < k; n++) {
    const row = n < count ? Number(value(n)) : n - count;
    if (allowed(row)) {
      rows.add(row);
    }
  }
  return Array.from(rows, (row) => [row, 0]);
}
