/** Ids of bundles of version 2, in buckets or groups, directly from the tables: one of them is decoded for each lookup. */

import type { Files } from "./bundle.ts";
import { BundleError } from "./errors.ts";
import { decoded, order, plain, type Id, type Ids } from "./ids.ts";
import type { RowsEntry } from "./manifest.ts";
import { utf8 } from "./source.ts";

/** A block of rows: the end of each part's rows, counted from the block's first, and the offset of each part. */
interface Block {
  first: bigint;
  ends: Uint32Array;
  starts: Float64Array;
}

/** Number of ids from which a bucket of ids with one low byte is a bitmap. */
const BITMAP_IDS = 32;
const BITMAP_BYTES = 32;
const NOTHING = new Uint8Array();

export function codedIds(bundle: Files, name: string, { ids, blocks: sizes }: RowsEntry): Ids {
  const bytes = bundle.blob(name, 0, bundle.manifest.sections.get(name)![3]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const blocks: Block[] = [];
  const text = ids === "str";
  let at = +!text;
  let last: { block?: Block; part?: number; texts: Uint8Array[] } = { texts: [] };
  /** Low bytes of a whole number. */
  const low = bytes[0]!;
  /** Distance of the beginnings of two buckets. */
  const span = 256 ** low;

  function damaged(): never {
    throw new BundleError(`the section '${name}' is damaged; copy the bundle again`);
  }
  const need = (holds: boolean) => holds || damaged();
  /** Make sure that `count` bytes are left, and skip them. */
  const skip = (count: number) => need((at += count) <= bytes.length);
  const bit = (start: number, n: number) => (bytes[start + (n >> 3)]! >> (n & 7)) & 1;

  /** Return the number of ids of a bucket if it is a bitmap; else 0. */
  const bits = (count: number) => (low === 1 && count >= BITMAP_IDS ? count : 0);

  /** Number of bits of a bitmap before bit `end`. */
  function rank(start: number, end: number): number {
    let sum = 0;
    for (let n = 0; n < end; n++) {
      sum += bit(start, n);
    }
    return sum;
  }

  need(text || (low > 0 && low < 8));
  for (const [, wanted] of sizes) {
    const head = at;
    skip(text ? 4 : 12);
    const count = view.getUint32(at - 4, true);
    const counts = at;
    skip(count * (text ? 5 : 2));
    const block = { first: text ? 0n : view.getBigInt64(head, true), ends: new Uint32Array(count), starts: new Float64Array(count) };
    let sum = 0;
    for (let n = 0; n < count; n++) {
      const own = text ? bytes[counts + n]! : view.getUint16(counts + 2 * n, true);
      block.starts[n] = at;
      block.ends[n] = sum += own;
      skip(text ? view.getUint32(counts + count + 4 * n, true) : bits(own) ? BITMAP_BYTES : own * low);
      need(text ? own > 0 : !bits(own) || rank(block.starts[n]!, 256) === own);
    }
    need(sum === wanted);
    blocks.push(block);
  }
  need(at === bytes.length);

  /** Return a LEB128 number, and go behind it. */
  function leb128(): number {
    let value = 0;
    for (let place = 0; place < 5; place++) {
      const byte = bytes[at++] ?? damaged();
      value += (byte & 127) * 128 ** place;
      if (byte < 128) {
        return value;
      }
    }
    return damaged();
  }

  /** Return the next text of a group, whose bytes begin with those of the one before. */
  function next(before: Uint8Array): Uint8Array {
    const shared = leb128();
    const length = leb128();
    need(shared <= before.length);
    skip(length);
    if (shared === 0) {
      return bytes.subarray(at - length, at);
    }
    const text = new Uint8Array(shared + length);
    for (let n = 0, from = at - text.length; n < text.length; n++) {
      text[n] = n < shared ? before[n]! : bytes[from + n]!;
    }
    return text;
  }

  const firstOf = (block: Block, part: number) => ((at = block.starts[part]!), next(NOTHING));

  /** Return the texts of a group. That of the last call is retained: rows are often requested in order. */
  function group(block: Block, part: number): Uint8Array[] {
    if (last.block !== block || last.part !== part) {
      const texts = [firstOf(block, part)];
      while (texts.length < block.ends[part]! - (block.ends[part - 1] ?? 0)) {
        texts.push(next(texts.at(-1)!));
      }
      last = { block, part, texts };
    }
    return last.texts;
  }

  /** The low part of a whole number; a bigint if it has 7 bytes. */
  function lowAt(start: number): number | bigint {
    let value = 0;
    for (let n = Math.min(low, 6); n--; ) {
      value = value * 256 + bytes[start + n]!;
    }
    return low > 6 ? BigInt(value) + (BigInt(bytes[start + 6]!) << 48n) : value;
  }

  function rowOfNumber(block: Block, wanted: bigint): number {
    const distance = BigInt.asUintN(64, wanted - block.first);
    const part = Number(distance >> BigInt(8 * low));
    if (part >= block.ends.length) {
      return -1;
    }
    const rest = distance % BigInt(span);
    const begin = block.ends[part - 1] ?? 0;
    const count = block.ends[part]! - begin;
    const start = block.starts[part]!;
    if (bits(count)) {
      return bit(start, Number(rest)) ? begin + rank(start, Number(rest)) : -1;
    }
    const found = firstFrom(count, (n) => lowAt(start + n * low) >= rest);
    return found < count && lowAt(start + found * low) == rest ? begin + found : -1; // a number may equal a bigint
  }

  function rowOfText(block: Block, wanted: Uint8Array): number {
    const { ends } = block;
    const part = firstFrom(ends.length, (n) => order(firstOf(block, n), wanted) > 0) - 1;
    const place = part < 0 ? -1 : group(block, part).findIndex((one) => order(one, wanted) === 0);
    return place < 0 ? -1 : (ends[part - 1] ?? 0) + place;
  }

  function idIn(block: Block, inside: number): Id {
    const { ends, starts } = block;
    const part = firstFrom(ends.length, (n) => ends[n]! > inside);
    const begin = ends[part - 1] ?? 0;
    let place = inside - begin;
    if (text) {
      return decoded(group(block, part)[place]!);
    }
    let rest: number | bigint = 0;
    if (bits(ends[part]! - begin)) {
      for (let bitmap = 0; place >= 0; bitmap++) {
        place -= bit(starts[part]!, bitmap);
        rest = bitmap;
      }
    } else {
      rest = lowAt(starts[part]! + place * low);
    }
    const number = BigInt.asIntN(64, block.first + BigInt(part * span) + BigInt(rest));
    return ids === "hash64" ? hexadecimal(number) : plain(number);
  }

  function rowOf(wanted: Uint8Array | bigint | null): number {
    let begin = 0;
    for (const block of wanted === null ? [] : blocks) {
      const found = text ? rowOfText(block, wanted as Uint8Array) : rowOfNumber(block, wanted as bigint);
      if (found >= 0) {
        return begin + found;
      }
      begin += block.ends.at(-1)!;
    }
    return -1;
  }

  return {
    row(raw) {
      const found = rowOf(wantedOf(raw, ids));
      // Answers are hashes, which requests take too.
      return found < 0 && ids === "hash64" && typeof raw === "string" && /^[\da-f]{16}$/.test(raw) ? rowOf(BigInt(`0x${raw}`)) : found;
    },
    id(row) {
      let n = 0;
      for (let rows; row >= (rows = blocks[n]!.ends.at(-1)!); n++) {
        row -= rows;
      }
      return idIn(blocks[n]!, row);
    },
  };
}

/** Return a requested id as it is searched for; null for what is no id. */
function wantedOf(raw: Id, ids: RowsEntry["ids"]): Uint8Array | bigint | null {
  if (ids === "int") {
    const number = typeof raw === "bigint" || Number.isSafeInteger(raw) ? BigInt(raw) : null;
    return number === null || BigInt.asIntN(64, number) !== number ? null : number;
  }
  const encoded = new TextEncoder().encode(typeof raw === "string" ? raw : "");
  // Text with a lone surrogate is no id, but encodes like another text.
  return utf8(encoded) !== raw ? null : ids === "str" ? encoded : hash(encoded);
}

/** Return the first n that holds, where all after it hold too; `end` if there is none. */
function firstFrom(end: number, holds: (n: number) => boolean): number {
  let low = 0;
  for (let high = end; low < high; ) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

/** The 64-bit FNV-1a hash. */
function hash(text: Uint8Array): bigint {
  let value = 0xcbf29ce484222325n;
  for (const byte of text) {
    value = BigInt.asUintN(64, (value ^ BigInt(byte)) * 0x100000001b3n);
  }
  return value;
}

const hexadecimal = (number: bigint) => BigInt.asUintN(64, number).toString(16).padStart(16, "0");

/**
 * Return the hash of a text id, 16 hexadecimal digits, as a bundle of hashed ids (`--ids hash64`) answers with it: an app
 * finds its item by the hashes of its own ids.
 */
export const idHash = (id: string) => hexadecimal(hash(new TextEncoder().encode(id)));
