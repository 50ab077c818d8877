/** Answers in bundle rows by the graphs of a bundle, and without them where there is none. */

import { codedIds } from "./coded.ts";
import { demandSound, finite, RequestError } from "./errors.ts";
import { attributesOf, idsOf, titlesOf } from "./ids.ts";
import type { Feed, OnnxBundle } from "./onnxruntime.ts";
import type { Ranking, RowLimits, RowModel, RowSubject } from "./recommender.ts";

export function graphRows(bundle: OnnxBundle): RowModel {
  const { metadata, items, users, graphs } = bundle.manifest;
  const { d } = metadata;
  const titles = titlesOf(bundle);
  const attributes = attributesOf(bundle);
  const lists = () => import("./ranking.ts");
  const may = ({ gone, allowed }: RowLimits) => (row: number) => !gone.has(row) && (!allowed || allowed.has(row));
  /** Return all rows that may not be in an answer. */
  const out = (limits: RowLimits) =>
    limits.allowed ? [...Array(items.rows).keys()].filter((row) => !may(limits)(row)) : [...limits.gone];

  async function feedOf({ user, history, vector }: RowSubject): Promise<Feed> {
    if (user != null) {
      return { user: [[user], [1]] };
    }
    if (vector) {
      return (await lists()).vectorFeed(bundle, vector, RequestError);
    }
    const feed = historyFeed(history!);
    return graphs.has("encode") ? { vector: [await encoded(feed), [1, d]] } : feed;
  }

  const encoded = async (feed: Feed) => finite((await bundle.run("encode", feed))["vector"]!.data as Float32Array, d);

  /** Run a graph that returns the k best of the remaining items. */
  async function ranked(graph: string, feed: Feed, k: number, left: number): Promise<Ranking> {
    const { items, scores } = await bundle.run(graph, { ...feed, k: [[k], []] });
    const found = Array.from(items!.data as BigInt64Array, Number).filter((row) => row >= 0);
    demandSound(found.length === Math.min(k, left)); // otherwise an item with score -inf would count as excluded
    // Missing items are last.
    return found.map((row, at) => [row, scores!.data[at] as number]);
  }

  const scored = async (feed: Feed, candidates: number[]) =>
    candidates.length > 0
      ? ((await bundle.run("score", { ...feed, candidates: matrix(candidates) }))["scores"]!.data as Float32Array)
      : new Float32Array();

  const model: RowModel = {
    metadata,
    ids(side) {
      const entry = side === "item" ? items : users!;
      const coded = entry.ids !== "none" && parseInt(metadata.version) > 1;
      return coded ? codedIds(bundle, `${side}_ids`, entry) : idsOf(bundle, `${side}_id`, entry);
    },
    title: (row) => titles?.(row) ?? "",
    attribute: (row, n) => attributes[n]!(row),
    async recommend(subject, { k, gone, allowed }, rarity = 0) {
      if (rarity !== 0) {
        return (await lists()).byRarity(bundle, model, subject, { k, gone, allowed }, rarity, RequestError);
      }
      const feed = await feedOf(subject);
      const limits = { k, gone: new Set([...gone, ...(subject.history ?? [])]), allowed };
      if (subject.history?.length === 0) {
        return model.popular(limits);
      }
      // Scoring a short list is cheaper than excluding the rest of the catalogue (edgerec/runtime/ranking.py).
      if (allowed && allowed.size * d <= items.rows) {
        const left = [...allowed].filter(may(limits));
        return (await lists()).bestOf(left, await scored(feed, left), k);
      }
      const excluded = out(limits);
      return ranked("recommend", { ...feed, exclude: matrix(excluded) }, k, items.rows - excluded.length);
    },
    popular: async (limits) => (await lists()).popularOf(bundle, may(limits), limits.k, RequestError),
    async similar(row, { k, gone, allowed }) {
      const limits = { k, gone: new Set([...gone, row]), allowed };
      // The graph takes no lists: it ranks as many more items as lists leave out.
      const most = Math.min(k + out(limits).length - 1, items.rows);
      const best = await ranked("similar", { item: [[row], [1]] }, most, items.rows - 1);
      return best.filter(([row]) => may(limits)(row)).slice(0, k);
    },
    score: async (subject, candidates) => scored(await feedOf(subject), candidates),
    encode: async (history) => encoded(historyFeed(history)),
    close: bundle.close,
  };
  return model;
}

/** Results for empty inputs differ by onnxruntime's version. */
const historyFeed = (history: number[]): Feed => ({ history: matrix(history.length > 0 ? history : [-1]) });

const matrix = (row: number[]): Feed[string] => [row, [1, row.length]];
