/**
 * Conversion between raw ids and bundle rows, directly from the tables: a binary search per block, no dictionary. Bundles
 * of version 2 have the ids of `coded.ts`.
 */

import type { Files } from "./bundle.ts";
import { BundleError } from "./errors.ts";
import type { RowsEntry } from "./manifest.ts";
import { utf8 } from "./source.ts";

/** A raw id; whole numbers beyond 2^53 are bigints, in answers too. */
export type Id = number | bigint | string;

/** The ids of items or users, in both directions. */
export interface Ids {
  /** Return the row of an id; -1 if it is unknown. */
  row(id: Id): number;
  id(row: number): Id;
}

/** Return a function from n to the bytes of text n, stored as one UTF-8 blob with offsets. */
function texts(bundle: Files, name: string): (n: number) => Uint8Array {
  const offset = bundle.section(`${name}_offsets`);
  return (n) => bundle.blob(`${name}s`, Number(offset(n)), Number(offset(n + 1)));
}

export function decoded(text: Uint8Array): string {
  try {
    return utf8(text);
  } catch {
    throw new BundleError("a text of the bundle is no UTF-8; export it again");
  }
}

/** Return a function from an item's row to its title; null if the bundle has no titles. */
export function titlesOf(bundle: Files): ((n: number) => string) | null {
  const found = bundle.manifest.sections.has("item_titles") && texts(bundle, "item_title");
  return found ? (n) => decoded(found(n)) : null;
}

/** Return, for each attribute of items, a function from an item's row to its text. */
export function attributesOf(bundle: Files): ((row: number) => string)[] {
  const { metadata, sections } = bundle.manifest;
  return metadata.attributes.map((_, n) => {
    const name = `attribute_${n}`;
    const number = bundle.section(name);
    const text = texts(bundle, `${name}_text`);
    const count = sections.get(`${name}_text_offsets`)![2][0]! - 1;
    return (row) => {
      const at = number(row) as number;
      if (!(at < count)) {
        throw new BundleError("the attributes of the bundle are damaged; export it again");
      }
      return decoded(text(at));
    };
  });
}

export function idsOf(bundle: Files, name: "item_id" | "user_id", { ids, blocks }: RowsEntry): Ids {
  const text = ids === "str" && texts(bundle, name);
  const number = ids === "int" ? bundle.section(`${name}s`) : (row: number) => row;

  function compare(row: number, wanted: Id | Uint8Array): number {
    if (text) {
      return order(text(row), wanted as Uint8Array);
    }
    const found = number(row); // numbers and bigints compare exactly
    return found < (wanted as number) ? -1 : +(found > (wanted as number));
  }

  const id = (row: number) => (text ? decoded(text(row)) : plain(number(row)));

  function row(raw: Id): number {
    if (text ? typeof raw !== "string" : typeof raw !== "bigint" && !Number.isSafeInteger(raw)) {
      return -1;
    }
    const wanted = text ? new TextEncoder().encode(raw as string) : raw;
    let end = 0;
    for (const [, count] of blocks) {
      let low = end;
      let high = (end += count);
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (compare(middle, wanted) < 0) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      // Text with a lone surrogate is no id, but encodes like another text.
      if (low < end && compare(low, wanted) === 0 && (!text || id(low) === raw)) {
        return low;
      }
    }
    return -1;
  }

  return { row, id };
}

/** Return a whole number as answers have it: a bigint only beyond 2^53. */
export const plain = (found: number | bigint) => (Number.isSafeInteger(Number(found)) ? Number(found) : found);

/** Compare byte strings: below 0 if the first comes first, 0 if they are equal. */
export function order(one: Uint8Array, other: Uint8Array): number {
  let at = 0;
  while (at < one.length && one[at] === other[at]) {
    at++;
  }
  return (one[at] ?? -1) - (other[at] ?? -1);
}
