/**
 * Rankings without a graph: the best items of an allow-list, rare items first, and popular items; and vectors of the app.
 * Loaded on first use, and therefore without imports of the rest of the library.
 */

import type { Files } from "./bundle.ts";
import type { EdgeRecError } from "./errors.ts";
import type { Feed } from "./onnxruntime.ts";
import type { Ranking, RowLimits, RowModel, RowSubject } from "./recommender.ts";

/** Return the k best rows by score; among equal scores the lower row comes first. */
export function bestOf(rows: number[], scores: ArrayLike<number>, k: number): Ranking {
  const ranking = rows.map((row, at): Ranking[0] => [row, scores[at]!]);
  return ranking.sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, k);
}

/** Refuse what is no rarity. */
export function demandRarity(rarity: unknown, RequestError: typeof EdgeRecError): void {
  if (!(typeof rarity === "number" && Math.abs(rarity) <= 2)) {
    throw new RequestError(`rarity must be a number in -2..2, got ${rarity}`);
  }
}

/** Return the weights of items in a history, which are larger for rare items, up to a factor; none if there are none. */
function weightsOf(bundle: Files): ArrayLike<number> {
  const [, dtype, , bytes] = bundle.manifest.sections.get("w") ?? [0, "", [], 0];
  if (bytes === 0) {
    return [];
  }
  const content = new Uint8Array(bundle.blob("w", 0, bytes)); // a copy, at an even address
  return dtype === "uint8" ? Float64Array.from(content, (code) => code ** 4) : new Float32Array(content.buffer);
}

/** Rank all that may be in the answer, and return the best with the scores that the rarity gives them. */
export async function byRarity(
  bundle: Files,
  model: RowModel,
  subject: RowSubject,
  limits: RowLimits,
  rarity: number,
  RequestError: typeof EdgeRecError,
): Promise<Ranking> {
  demandRarity(rarity, RequestError);
  const weights = weightsOf(bundle);
  let [least, most] = [Infinity, 0];
  for (let row = 0; row < weights.length; row++) {
    least = Math.min(least, weights[row]!); // NaN remains
    most = Math.max(most, weights[row]!);
  }
  if (!(least > 0 && most > least && most < Infinity)) {
    throw new RequestError(
      "this bundle does not say which items are rare: rarity needs one without users of svd, lae with the encoder 'sum', or a fitted linear encoder",
    );
  }
  if (subject.history?.length === 0) {
    return model.recommend(subject, limits); // popular items
  }
  const all = await model.recommend(subject, { ...limits, k: bundle.manifest.items.rows });
  const scores = all.map(([row, score]) => {
    const factor = (weights[row]! / (rarity > 0 ? most : least)) ** rarity;
    return Math.fround(score > 0 ? score * factor : score / factor);
  });
  return bestOf(
    all.map(([row]) => row),
    scores,
    limits.k,
  );
}

/** Graphs square values, which neither overflow nor vanish between 2^-32 and 2^32 (edgerec/runtime/inputs.py). */
const LARGEST = 2 ** 32;

/** Return the graphs' inputs for an app's vector. */
export function vectorFeed(bundle: Files, vector: ArrayLike<number>, RequestError: typeof EdgeRecError): Feed {
  const { d } = bundle.manifest.metadata;
  const given: unknown[] = Array.from(vector);
  if (!bundle.manifest.graphs.has("encode")) {
    throw new RequestError("this bundle takes no vector: give a history of items");
  }
  const sizes = given.map((value) => (typeof value === "number" ? Math.abs(value) : NaN));
  const largest = Math.max(...sizes);
  if (given.length !== d || !(largest === 0 || (largest >= 1 / LARGEST && largest <= LARGEST))) {
    throw new RequestError(`a vector is ${d} numbers, of which the largest is between 2^-32 and 2^32, got ${given.length}, up to ${largest}`);
  }
  return { vector: [Float32Array.from(given as number[]), [1, d]] };
}

/** Return the k most popular items, then others by row, all with score 0, which is the score without a history. */
export function popularOf(bundle: Files, allowed: (row: number) => boolean, k: number, RequestError: typeof EdgeRecError): Ranking {
  const { popularItems, items, sections } = bundle.manifest;
  if (popularItems == null) {
    throw new RequestError(
      "this bundle names no popular items, which answer an empty history too; export it again, your own tables with --item-counts",
    );
  }
  const count = sections.get(popularItems)![2][0]!;
  const value = bundle.section(popularItems);
  const rows = new Set<number>();
  for (let n = 0; n < count + items.rows && rows.size < k; n++) {
    const row = n < count ? Number(value(n)) : n - count;
    if (allowed(row)) {
      rows.add(row);
    }
  }
  return Array.from(rows, (row) => [row, 0]);
}
