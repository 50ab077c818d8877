/** Patches, which turn one bundle into another; specified in docs/reference/patch.md. Loaded when the first is applied. */

import type { limits as specified } from "../../../edgerec/runtime/bundle-spec.json";
import type { EdgeRecError } from "./errors.ts";
import type { FileEntry, Manifest } from "./manifest.ts";
import type { Bytes, Source } from "./source.ts";

/** Functions of the library, passed in because this file is loaded separately. */
export interface Tools {
  /** Parse and check a manifest, and its signature if there are trusted keys. */
  parse(document: Bytes): Promise<Manifest>;
  checkFile(entry: FileEntry, content: Bytes, verify: boolean): Promise<void>;
  jsonObject(content: Bytes): Record<string, unknown>;
  limits: typeof specified;
  sha256(content: Bytes): Promise<string>;
  EdgeRecError: typeof EdgeRecError;
  PatchError: typeof EdgeRecError;
}

interface Base extends Tools {
  manifest: Manifest;
  /** The bytes of the manifest. */
  document: Bytes;
  /** Read a file of the base and compare its sha256. */
  read(entry: FileEntry): Promise<Bytes>;
  /** The base is a cached copy without its card (README), which is never read from a cache and need not be rebuilt. */
  cached: boolean;
}

/** Apply a patch to the bundle of a source. @throws PatchError, and the other errors of `apply` in index.ts. */
export async function apply(source: Source, patch: Bytes, tools: Tools): Promise<boolean> {
  const { parse, checkFile, EdgeRecError, PatchError } = tools;
  ({ limits } = tools);
  const document = await source.read("manifest.json", limits.manifest_bytes, false);
  const manifest = await parse(document);
  const read = async (entry: FileEntry) => {
    const content = await source.read(entry.file, entry.bytes, false);
    await checkFile(entry, content, true);
    return content;
  };
  let changed: [string, Bytes][] | null;
  try {
    changed = await rebuilt(patch, { ...tools, manifest, document, read, cached: !!source.keepOnly });
  } catch (error) {
    if (error instanceof EdgeRecError) {
      throw error;
    }
    throw new PatchError(error instanceof Refusal ? error.message : damaged((error as Error).message).message);
  }
  if (changed) {
    if (!source.replace) {
      throw new PatchError("this source stores nothing: it has no 'replace'; get the whole bundle");
    }
    await source.replace(changed, document, [...files(manifest).keys(), ...changed.map(([file]) => file)]);
  }
  return !!changed;
}

const HEAD = 52;
const SIGNED_FROM = 44;
/** The limits of the specification, set by `apply`. */
let limits: typeof specified;
/** Bytes to inflate at a time while searching for the end of the header. */
const PIECE = 1 << 16;
const OURS = /^(?:tables|recommend|score|similar|encode|README)-([0-9a-f]{12})\.(?:bin|onnx|md)$/;

/** The header of a patch file. The build shortens some property names; names of this format are quoted for that reason. */
interface Header {
  format: string;
  version: string;
  base: { manifest: string };
  manifest: { bytes: number; sha256: string; copies: number };
  files: { file: string; from: string | null; copies: number }[];
  sides: Record<string, { copies: number; changed: number }>;
  sections: { name: string; from: string | null; copies: number; side?: string; old: FormFields; new: FormFields }[];
}

/** Unsigned integers of one size; those of 64 bits are bigints. The code below handles both in the same way. */
type Units = Uint8Array | Uint16Array | Uint32Array | BigUint64Array;
type Unit = number & bigint;

/**
 * Rebuild the files that a patch changes, the manifest last; null if the base is the target already.
 *
 * @throws Refusal the patch is damaged, or for another base; SignatureError; any error for a hostile patch.
 */
async function rebuilt(patch: Bytes, base: Base): Promise<[file: string, content: Bytes][] | null> {
  const { manifest, sha256 } = base;
  const head = new DataView(patch.buffer, patch.byteOffset, patch.length);
  if (patch.length < HEAD || String.fromCharCode(...patch.subarray(0, 8)) !== "edgerecP") {
    throw new Refusal("this is no patch; make one with 'edgerec diff OLD NEW --out PATCH'");
  }
  const major = head.getUint16(8, true);
  if (major > limits.patch_major) {
    throw new Refusal(`the patch has version ${major}.x, this reader knows ${limits.patch_major}.x; update edgerec`);
  }
  const promised = Array.from(patch.subarray(12, SIGNED_FROM), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if ((await sha256(patch.slice(SIGNED_FROM))) !== promised) {
    throw damaged("its sha256 differs");
  }
  const inflated = Number(head.getBigUint64(SIGNED_FROM, true));
  const known = manifest.metadata.bytes;
  need(inflated <= limits.inflated * known + limits.inflated_room, `${inflated} bytes for a bundle of ${known}`);
  const parts = new PatchParts(patch.slice(HEAD), inflated);
  try {
    return await filesFrom(parts, inflated, `${major}.${head.getUint16(10, true)}`, base);
  } finally {
    await parts.close();
  }
}

async function filesFrom(parts: PatchParts, inflated: number, version: string, base: Base): Promise<[file: string, content: Bytes][] | null> {
  const { manifest, document, sha256 } = base;
  const known = manifest.metadata.bytes;
  const header = await parts.header(base.jsonObject, version);
  const digest = await sha256(document);
  if (digest === header["manifest"].sha256) {
    return null;
  }
  if (digest !== header.base["manifest"]) {
    throw new Refusal("the patch is for another bundle; apply patches in their order, or get the whole bundle");
  }

  const most = limits.growth * (known + inflated) + limits.growth_room;
  const joined = (content: Bytes, bytes: number, copies: number) => {
    need(bytes >= 0 && bytes <= most, `a file of ${bytes} bytes`);
    return parts.copies(copies, content.length, bytes, limits.bytes_a_run).joined(content, parts, bytes);
  };
  const { bytes, copies } = header["manifest"];
  need(bytes <= limits.manifest_bytes, `a file of ${bytes} bytes`);
  await parts.ready(RUN * (bytes / limits.bytes_a_run + 1) + bytes);
  const target = joined(document, bytes, copies);
  need((await sha256(target)) === header["manifest"].sha256, "it makes another manifest than it promises");
  const result = await base.parse(target);
  const [now, then] = [manifest, result].map(({ metadata }) => metadata.rollbackIndex) as [number, number];
  if (then < now) {
    throw new Refusal(`the patch leads to a bundle with rollback index ${then}, this one has ${now}; get a newer patch`);
  }
  // The rest of the stream is inflated only after the new manifest's signature was checked.
  await parts.ready(inflated);
  need(result.metadata.bytes <= most, `a bundle of ${result.metadata.bytes} bytes`);

  const before = files(manifest);
  const wanted = new Map([...files(result)].filter(([name, { sha256 }]) => before.get(name)?.sha256 !== sha256));
  const found: [string, Bytes][] = [];
  const take = async (name: string, content: Bytes) => {
    const entry = wanted.get(name);
    need(entry && wanted.delete(name) && entry.sha256.startsWith(OURS.exec(name)?.[1] ?? "no name of ours"), `a file ${name}`);
    need((await sha256(content)) === entry!.sha256, `it makes another ${name} than it promises`);
    found.push([name, content]);
  };
  for (const { file, from, copies } of header.files) {
    const source = from === null ? null : before.get(from)!;
    const card = base.cached && source && manifest.others.includes(source);
    const content = card || !source ? new Uint8Array(source?.bytes ?? 0) : await base.read(source);
    const whole = joined(content, wanted.get(file)!.bytes, copies);
    if (card) {
      wanted.delete(file);
    } else {
      await take(file, whole);
    }
  }
  if (wanted.has(result.tables.file)) {
    await take(result.tables.file, tables(header, parts, manifest, await base.read(manifest.tables), result));
  }
  need(wanted.size === 0 && parts.left() === 0, "it brings other files than its manifest names");
  await parts.end();
  return [...found, ["manifest.json", target]];
}

class Refusal extends Error {}

function damaged(reason: string): Refusal {
  return new Refusal(`the patch is damaged (${reason}); get it again`);
}

function need(holds: unknown, reason: string): void {
  if (!holds) {
    throw damaged(reason);
  }
}

function files({ ownFiles }: Manifest): Map<string, FileEntry> {
  return new Map(ownFiles.map((entry) => [entry.file, entry]));
}

/** Bytes of a run, which is three numbers. */
const RUN = 12;

/** The stream of a patch, inflated on demand: its header, and the parts after it, taken in order. */
class PatchParts {
  private at = 0;
  private filled = 0;
  private readonly stream: Bytes;
  private readonly reader: ReadableStreamDefaultReader<Uint8Array>;

  constructor(
    private readonly deflated: Bytes,
    bytes: number,
  ) {
    this.stream = new Uint8Array(bytes);
    this.reader = inflated(deflated);
  }

  /** Inflate at least `bytes` after the last part that was taken, or to the end. */
  async ready(bytes: number): Promise<void> {
    const wanted = Math.min(this.at + bytes, this.stream.length);
    while (this.filled < wanted) {
      const { done, value } = await this.reader.read();
      need(!done && this.filled + value!.length <= this.stream.length, "its stream has another length than promised");
      this.stream.set(value!, this.filled);
      this.filled += value!.length;
    }
  }

  /** Refuse a stream that is longer than promised, or has bytes after its end. */
  async end(): Promise<void> {
    let more = !(await this.reader.read()).done;
    // Some platforms ignore bytes after a stream. If there are none, a stream without its last byte is truncated.
    const shorter = inflated(this.deflated.subarray(0, -1));
    try {
      while (!more && !(await shorter.read()).done);
      more = true;
    } catch {
      // It is truncated.
    }
    await shorter.cancel().catch(() => undefined);
    need(!more, "its stream has another length than promised");
  }

  async close(): Promise<void> {
    await this.reader.cancel().catch(() => undefined);
  }

  async header(parse: Tools["jsonObject"], version: string): Promise<Header> {
    let end = -1;
    for (let bytes = PIECE; end < 0 && bytes < limits.header_bytes + PIECE; bytes += PIECE) {
      await this.ready(bytes);
      end = this.stream.subarray(0, Math.min(this.filled, limits.header_bytes + 1)).indexOf(10);
    }
    need(end >= 0, `it has no header of at most ${limits.header_bytes} bytes`);
    const header = parse(this.take(end)) as unknown as Header;
    this.at = end + 1;
    need(header.format === "edgerec.patch", "it has no header");
    need(header["version"] === version, "its header is of another version");
    return header;
  }

  take(size: number): Bytes {
    need(size >= 0 && size <= this.left(), `a part of ${size} bytes where ${this.left()} are left`);
    need(this.at + size <= this.filled, "its manifest takes more than it can");
    this.at += size;
    return this.stream.subarray(this.at - size, this.at);
  }

  /** The number of bytes that are not taken yet. */
  left(): number {
    return this.stream.length - this.at;
  }

  /** Take numbers that are stored in byte planes: the lowest bytes of all, then the second ones, and so on. */
  values(count: number, size: number): Units {
    const stored = this.take(count * size);
    const bytes = new Uint8Array(count * size);
    for (let plane = 0; plane < size; plane++) {
      for (let n = 0; n < count; n++) {
        bytes[n * size + plane] = stored[plane * count + n]!;
      }
    }
    return units(bytes, size);
  }

  /**
   * Take copies that build `target` units from a base of `base` units.
   *
   * @param least minimum of the average units per run, except for one run.
   */
  copies(count: number, base: number, target: number, least = 1): Copies {
    need(count <= target / least + 1, `${count} runs that make ${target}`);
    const numbers = this.values(3 * count, 4) as Uint32Array;
    const copies = new Copies(numbers, count);
    need(copies.fit(base, target), "it copies what is not there");
    return copies;
  }
}

function inflated(deflated: Bytes): ReadableStreamDefaultReader<Uint8Array> {
  return new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
}

function units(bytes: Bytes, size: number): Units {
  const kind = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array, 8: BigUint64Array }[size]!;
  return new kind(bytes.slice().buffer);
}

/** Instructions to build an array from a base: runs that are copied, with inserted units between them. */
class Copies {
  constructor(
    private readonly numbers: Uint32Array,
    private readonly count: number,
  ) {}

  *[Symbol.iterator](): Generator<[start: number, count: number, inserted: number]> {
    let end = 0;
    for (let n = 0; n < this.count; n++) {
      const skip = this.numbers[n]!;
      // 0, -1, 1, -2, 2, ... are stored as 0, 1, 2, 3, 4, ...
      const start = end + (skip % 2 ? -(skip + 1) / 2 : skip / 2);
      const count = this.numbers[this.count + n]!;
      end = start + count;
      yield [start, count, this.numbers[2 * this.count + n]!];
    }
  }

  fit(base: number, target: number): boolean {
    let sum = 0;
    for (const [start, count, inserted] of this) {
      sum += count + inserted;
      if (start < 0 || start + count > base) {
        return false;
      }
    }
    return sum === target;
  }

  /** The number of inserted units. */
  inserted(): number {
    return this.numbers.subarray(2 * this.count).reduce((sum, inserted) => sum + inserted, 0);
  }

  joined(base: Bytes, parts: PatchParts, bytes: number): Bytes {
    const target = new Uint8Array(bytes);
    const literals = parts.take(this.inserted());
    let at = 0;
    let used = 0;
    for (const [start, count, inserted] of this) {
      target.set(base.subarray(start, start + count), at);
      target.set(literals.subarray(used, (used += inserted)), at + count);
      at += count + inserted;
    }
    return target;
  }

  /** For each unit the base unit that it is copied from, -1 for inserted ones. */
  sources(target: number): Int32Array {
    const found = new Int32Array(target).fill(-1);
    let at = 0;
    for (const [start, count, inserted] of this) {
      for (let n = 0; n < count; n++) {
        found[at + n] = start + n;
      }
      at += count + inserted;
    }
    return found;
  }
}

/** The origin of the rows of items or users in the base. */
interface RowChanges {
  /** The base's row of each row, -1 for new ones. */
  sources: Int32Array;
  /** 1 for new and changed rows. */
  touched: Uint8Array;
}

function rowChangesOf(fields: { copies: number; changed: number }, parts: PatchParts, base: number, rows: number): RowChanges {
  const copies = parts.copies(fields.copies, base, rows);
  need(copies.inserted() <= Math.max(parts.left(), base) + limits.new_rows_room, "more new rows than it can tell of");
  const sources = copies.sources(rows);
  const touched = Uint8Array.from(sources, (source) => +(source < 0));
  const used = new Uint8Array(base);
  for (const source of sources) {
    need(source < 0 || !used[source], "a row is copied twice");
    used[source] = 1; // no effect for -1
  }
  let row = 0;
  for (const distance of parts.values(fields.changed, 4) as Uint32Array) {
    row += distance;
    need(row < rows, "a row is changed that is not there");
    touched[row] = 1;
  }
  return { sources, touched };
}

/** Build the tables file. */
function tables(header: Header, parts: PatchParts, base: Manifest, content: Bytes, result: Manifest): Bytes {
  const target = new Uint8Array(result.tables.bytes);
  const sides = new Map<string, RowChanges>();
  for (const [name, fields] of Object.entries(header.sides)) {
    const [old, now] = [base, result].map((one) => (name === "item" ? one.items : one.users)?.rows ?? 0);
    need(now! <= 2 * target.length, `${now} rows in tables that have no room for them`); // a row takes at least 4 bits
    sides.set(name, rowChangesOf(fields, parts, old!, now!));
  }
  const lengths: [Map<string, Uint32Array>, Map<string, Uint32Array>] = [new Map(), new Map()];
  const stored = (name: string) => {
    const [offset, dtype, , bytes] = base.sections.get(name)!;
    return { bytes: content.subarray(offset, offset + bytes), size: sizeOf(dtype) };
  };
  const waiting = new Set(result.sections.keys());
  for (const { name, from, side, copies, old, new: form } of header["sections"]) {
    need(waiting.delete(name), `a section '${name}'`);
    const [offset, dtype, , bytes] = result.sections.get(name)!;
    if (side === undefined) {
      const source = from === null ? new Uint8Array() : stored(from).bytes;
      target.set(parts.copies(copies, source.length, bytes, limits.bytes_a_run).joined(source, parts, bytes), offset);
      continue;
    }
    const { sources, touched } = sides.get(side)!;
    const source = stored(from!);
    const before = unpacked(units(source.bytes, source.size), source.size, old, lengths[0]);
    const size = sizeOf(dtype);
    const after = zeroRows(form, size, bytes / size, lengths[1]);
    need(after.width.length === sources.length, `section '${name}' has other rows than its side`);
    fill(after, before, sources, touched, parts, size);
    const packing = packed(after, form, size, bytes / size);
    if ("pointers" in form) {
      [before, after].forEach((rows, n) => lengths[n]!.set(name, Uint32Array.from(rows.units as Uint32Array, Number)));
    }
    target.set(new Uint8Array(packing.buffer), offset);
  }
  need(waiting.size === 0, "other sections than the manifest's");
  return target;
}

function sizeOf(dtype: string): number {
  return +/\d+$/.exec(dtype)![0] / 8;
}

type Block = [rows: number, width: number, bits: number, byColumn: number, zero: number];
type FormFields = { blocks: Block[] } | { lengths: string; bits: number; zero: number } | { pointers: 1 };

/** The rows of a section: all units, and for each row the position of its first unit, their distance and number. */
interface PatchRows {
  units: Units;
  blocks: Block[];
  first: Uint32Array;
  step: Uint32Array;
  width: Uint32Array;
  zero: Uint32Array;
}

/** Return how many units share a byte: two of 4 bits, four of 2 bits. */
const sharing = (bits: number) => Math.max(1, 8 / bits);

/** Return the number of units of a block with padding to whole bytes; by column, each part of a byte has whole columns. */
function unitsOf([rows, width, bits, byColumn]: Block): number {
  const shared = sharing(bits);
  return shared * (byColumn ? rows * Math.ceil(width / shared) : Math.ceil((rows * width) / shared));
}

/** Allocate the rows of a form; those of ragged forms have the lengths of a section that came before. */
function laidOut(form: FormFields, size: number, entries: number, lengths: Map<string, Uint32Array>): PatchRows {
  let blocks: Block[];
  let ragged: Uint32Array | undefined;
  if ("pointers" in form) {
    blocks = [[entries - 1, 1, 8 * size, 0, 0]];
  } else if ("lengths" in form) {
    ragged = lengths.get(form.lengths);
    need(ragged, `nothing is known of '${form.lengths}'`);
    blocks = [[1, ragged!.reduce((sum, length) => sum + length, 0), form.bits, 0, form.zero]];
  } else {
    blocks = form.blocks;
  }
  let capacity = 0;
  for (const block of blocks) {
    const whole = block.every((number) => Number.isSafeInteger(number) && number >= 0);
    const fits = block[2] === 8 * size || (size === 1 && (block[2] === 2 || block[2] === 4));
    need(whole && fits && (ragged || block[1] > 0), `a block ${block}`);
    capacity += unitsOf(block) / sharing(block[2]);
  }
  need(blocks.length > 0 && capacity <= entries, "a section whose rows take more");
  const rows = ragged ? ragged.length : blocks.reduce((sum, [count]) => sum + count, 0);
  const count = blocks.reduce((sum, block) => sum + unitsOf(block), 0);
  const [first, step, width, zero] = Array.from({ length: 4 }, () => new Uint32Array(rows)) as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  let unit = 0;
  let row = 0;
  if (ragged) {
    width.set(ragged);
    step.fill(1);
    zero.fill(blocks[0]![4]);
    ragged.forEach((length, n) => ((first[n] = unit), (unit += length)));
  } else {
    for (const block of blocks) {
      const [own, wide, , byColumn, nothing] = block;
      for (let n = 0; n < own; n++, row++) {
        first[row] = unit + n * (byColumn ? 1 : wide);
        step[row] = byColumn ? own : 1;
        width[row] = wide;
        zero[row] = nothing;
      }
      unit += unitsOf(block);
    }
  }
  return { units: units(new Uint8Array(count * size), size), blocks, first, step, width, zero };
}

/** Read the rows of a stored section. */
function unpacked(stored: Units, size: number, form: FormFields, lengths: Map<string, Uint32Array>): PatchRows {
  const rows = laidOut(form, size, stored.length, lengths);
  if ("pointers" in form) {
    rows.units.forEach((_, n) => (rows.units[n] = ((stored[n + 1] as Unit) - (stored[n] as Unit)) as Unit));
    return rows;
  }
  let at = 0;
  let unit = 0;
  for (const block of rows.blocks) {
    const count = unitsOf(block);
    const bits = block[2];
    if (bits < 8) {
      const entries = count / sharing(bits);
      for (let n = 0; n < count; n++) {
        rows.units[unit + n] = (((stored[at + (n % entries)] as number) >> (bits * Math.floor(n / entries))) & ((1 << bits) - 1)) as Unit;
      }
      at += entries;
    } else {
      rows.units.set(stored.subarray(at, (at += count)) as never, unit);
    }
    unit += count;
  }
  return rows;
}

/** Allocate the rows of a new section, filled with their zero values. */
function zeroRows(form: FormFields, size: number, entries: number, lengths: Map<string, Uint32Array>): PatchRows {
  const rows = laidOut(form, size, entries, lengths);
  let unit = 0;
  for (const block of rows.blocks) {
    rows.units.fill(exact(rows.units, block[4]), unit, (unit += unitsOf(block)));
  }
  return rows;
}

function exact(of: Units, value: number | bigint): Unit {
  return (of instanceof BigUint64Array ? BigInt(value) : Number(value)) as Unit;
}

/** Copy rows from the base, and add the differences of touched rows, modulo the units' range. */
function fill(after: PatchRows, before: PatchRows, sources: Int32Array, touched: Uint8Array, parts: PatchParts, size: number): void {
  const total = after.width.reduce((sum, width, row) => sum + (touched[row] ? width : 0), 0);
  const differences = parts.values(total, size);
  let at = 0;
  for (let row = 0; row < sources.length; row++) {
    const source = sources[row]!;
    need(source < before.width.length, "it copies a row that is not there");
    const width = after.width[row]!;
    const copied = source < 0 ? 0 : Math.min(width, before.width[source]!);
    for (let n = 0; n < width; n++) {
      const value = n < copied ? before.units[before.first[source]! + n * before.step[source]!]! : after.zero[row]!;
      const difference = touched[row] ? differences[at++]! : 0;
      after.units[after.first[row]! + n * after.step[row]!] = (exact(after.units, value) + exact(after.units, difference)) as Unit;
    }
  }
}

/** Pack rows into the stored form of a section. */
function packed(rows: PatchRows, form: FormFields, size: number, entries: number): Units {
  const stored = units(new Uint8Array(entries * size), size);
  if ("pointers" in form) {
    rows.units.forEach((length, n) => (stored[n + 1] = ((stored[n] as Unit) + (length as Unit)) as Unit));
    return stored;
  }
  const [, , width, , zero] = rows.blocks[0]!;
  // A byte of 2-bit zeros is one times 0b01010101, of 4-bit zeros one times 0b00010001.
  stored.fill(exact(stored, width < 8 ? zero * (255 / ((1 << width) - 1)) : zero));
  let at = 0;
  let unit = 0;
  for (const block of rows.blocks) {
    const count = unitsOf(block);
    const bits = block[2];
    if (bits < 8) {
      const entries = count / sharing(bits);
      stored.fill(0 as Unit, at, at + entries);
      for (let n = 0; n < count; n++) {
        const own = (rows.units[unit + n] as number) & ((1 << bits) - 1);
        stored[at + (n % entries)] = ((stored[at + (n % entries)] as number) | (own << (bits * Math.floor(n / entries)))) as Unit;
      }
      at += entries;
    } else {
      stored.set(rows.units.subarray(unit, unit + count) as never, at);
      at += count;
    }
    unit += count;
  }
  return stored;
}
