/** Raw ids to bundle rows and back, straight from the tables: a binary search a block, no dictionary. */

import type { Bundle } from "./bundle.ts";
import { BundleError } from "./errors.ts";
import type { Side } from "./manifest.ts";
import { utf8 } from "./source.ts";

/** A raw id: whole numbers beyond 2^53 are bigints, in answers too. */
export type Id = number | bigint | string;

/** Both directions of one side's ids. */
export interface Ids {
  /** The row of an id; -1 where it is unknown. */
  row(id: Id): number;
  id(row: number): Id;
}

/** The bytes of text n, of one blob of UTF-8 and offsets into it. */
function texts(bundle: Bundle, name: string): (n: number) => Uint8Array {
  const offset = bundle.section(`${name}_offsets`);
  return (n) => bundle.blob(`${name}s`, Number(offset(n)), Number(offset(n + 1)));
}

function decoded(text: Uint8Array): string {
  try {
    return utf8(text);
  } catch {
    throw new BundleError("a text of the bundle is no UTF-8; export it again");
  }
}

/** Item n's title, where there are titles. */
export function titlesOf(bundle: Bundle): ((n: number) => string) | null {
  const found = bundle.manifest.sections.has("item_titles") && texts(bundle, "item_title");
  return found ? (n) => decoded(found(n)) : null;
}

export function idsOf(bundle: Bundle, name: "item_id" | "user_id", { ids, blocks }: Side): Ids {
  const text = ids === "str" && texts(bundle, name);
  const number = ids === "int" ? bundle.section(`${name}s`) : (row: number) => row;

  function compare(row: number, wanted: Id | Uint8Array): number {
    if (text) {
      return order(text(row), wanted as Uint8Array);
    }
    const found = number(row); // numbers and bigints compare exactly
    return found < (wanted as number) ? -1 : +(found > (wanted as number));
  }

  function id(row: number): Id {
    const found = text ? decoded(text(row)) : number(row);
    return typeof found === "bigint" && Number.isSafeInteger(Number(found)) ? Number(found) : found;
  }

  function row(asked: Id): number {
    if (text ? typeof asked !== "string" : typeof asked !== "bigint" && !Number.isSafeInteger(asked)) {
      return -1;
    }
    const wanted = text ? new TextEncoder().encode(asked as string) : asked;
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
      // Half a character is no id, and encodes as another one does.
      if (low < end && compare(low, wanted) === 0 && (!text || id(low) === asked)) {
        return low;
      }
    }
    return -1;
  }

  return { row, id };
}

/** Below 0 where the first comes first, 0 where they are equal. */
function order(one: Uint8Array, other: Uint8Array): number {
  let at = 0;
  while (at < one.length && one[at] === other[at]) {
    at++;
  }
  return (one[at] ?? -1) - (other[at] ?? -1);
}
