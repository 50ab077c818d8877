/**
 * What no graph does: the best of an allow-list, and the answer to an empty history. Loaded with the first of them, and so
 * without what the rest imports.
 */

import type { Bundle } from "./bundle.ts";
import type { EdgeRecError } from "./errors.ts";

/** Rows and their scores, best first. */
export type Ranking = [row: number, score: number][];

/** The k best of rows by their scores, of equal ones the lower row. */
export function bestOf(rows: number[], scores: ArrayLike<number>, k: number): Ranking {
  const ranking = rows.map((row, at): Ranking[0] => [row, scores[at]!]);
  return ranking.sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, k);
}

/** The k most popular items, then any others by row, all with score 0, as their scores are without a history. */
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
