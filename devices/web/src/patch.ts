/** Patches: one bundle made of another one, as docs/reference/patch.md says. Loaded when the first is applied. */

import type { limits as specified } from "../../../edgerec/runtime/bundle-spec.json";
import type { EdgeRecError } from "./errors.ts";
import type { FileEntry, Manifest } from "./manifest.ts";
import type { Bytes, Source } from "./source.ts";

/** What the rest gives, which this is loaded apart from. */
export interface Tools {
  /** A manifest, checked, and its signature too where that is wanted. */
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
  /** The content of a file of the base, its sha256 compared. */
  read(entry: FileEntry): Promise<Bytes>;
  /** The base is what was kept of one, without its card: nobody reads that, and where it is gone it is not made anew. */
  kept: boolean;
}

/** @throws PatchError, and what else `apply` in index.ts says. */
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
  let made: [string, Bytes][] | null;
  try {
    made = await rebuilt(patch, { ...tools, manifest, document, read, kept: !!source.keepOnly });
  } catch (error) {
    if (error instanceof EdgeRecError) {
      throw error;
    }
    throw new PatchError(error instanceof Refusal ? error.message : damaged((error as Error).message).message);
  }
  if (made) {
    if (!source.replace) {
      throw new PatchError("this source keeps nothing: it has no 'replace'; get the whole bundle");
    }
    await source.replace(made, document, [...files(manifest).keys(), ...made.map(([file]) => file)]);
  }
  return !!made;
}

const HEAD = 52;
const SIGNED_FROM = 44;
/** Those of the specification, which the rest of the library holds. */
let limits: typeof specified;
/** Bytes that are inflated at once, to look for the end of the header. */
const PIECE = 1 << 16;
const OURS = /^(?:tables|recommend|score|similar|encode|README)-([0-9a-f]{12})\.(?:bin|onnx|md)$/;

/** The build shortens the names of manifests' fields; those of this are a file's, and so some are quoted below. */
interface Header {
  format: string;
  version: string;
  base: { manifest: string };
  manifest: { bytes: number; sha256: string; copies: number };
  files: { file: string; from: string | null; copies: number }[];
  sides: Record<string, { copies: number; changed: number }>;
  sections: { name: string; from: string | null; copies: number; side?: string; old: FormFields; new: FormFields }[];
}

/** Unsigned integers of one size; those of 64 bits are bigints, and everything here is done alike with both. */
type Units = Uint8Array | Uint16Array | Uint32Array | BigUint64Array;
type Unit = number & bigint;

/**
 * The files that a patch makes, the manifest last; null where the base is what it leads to already.
 *
 * @throws Refusal what is wrong with it, or that it is for another base; SignatureError; anything where it is hostile.
 */
async function rebuilt(patch: Bytes, base: Base): Promise<[file: string, content: Bytes][] | null> {
  const { manifest, sha256 } = base;
  const head = new DataView(patch.buffer, patch.byteOffset, patch.length);
  if (patch.length < HEAD || String.fromCharCode(...patch.subarray(0, 8)) !== "edgerecP") {
    throw new Refusal("this is no patch; make one with 'edgerec diff OLD NEW --out PATCH'");
  }
  const major = head.getUint16(8, true);
  if (major > limits.major) {
    throw new Refusal(`the patch has version ${major}.x, this reader knows ${limits.major}.x; update edgerec`);
  }
  const promised = Array.from(patch.subarray(12, SIGNED_FROM), (byte) => byte.toString(16).padStart(2, "0")).join("");
  if ((await sha256(patch.slice(SIGNED_FROM))) !== promised) {
    throw damaged("its sha256 differs");
  }
  const inflated = Number(head.getBigUint64(SIGNED_FROM, true));
  const known = manifest.metadata.bytes;
  need(inflated <= limits.inflated * known + limits.inflated_room, `${inflated} bytes for a bundle of ${known}`);
  const parts = new Parts(patch.slice(HEAD), inflated);
  try {
    return await made(parts, inflated, `${major}.${head.getUint16(10, true)}`, base);
  } finally {
    await parts.close();
  }
}

async function made(parts: Parts, inflated: number, version: string, base: Base): Promise<[file: string, content: Bytes][] | null> {
  const { manifest, document, sha256 } = base;
  const known = manifest.metadata.bytes;
  const header = await parts.header(base.jsonObject, version);
  const digest = await sha256(document);
  if (digest === header["manifest"].sha256) {
    return null;
  }
  if (digest !== header.base["manifest"]) {
    throw new Refusal("the patch was made for another bundle; apply patches in their order, or get the whole bundle");
  }

  const most = limits.growth * (known + inflated) + limits.growth_room;
  const joined = (content: Bytes, bytes: number, copies: number) => {
    need(bytes >= 0 && bytes <= most, `a file of ${bytes} bytes`);
    return parts.copies(copies, content.length, bytes, limits.bytes_a_run).joined(content, parts, bytes);
  };
  const { bytes, copies } = header["manifest"];
  need(bytes <= limits.manifest_bytes, `a file of ${bytes} bytes`);
  await parts.ready(RUN * (bytes / limits.bytes_a_run + 1) + bytes);
  const made = joined(document, bytes, copies);
  need((await sha256(made)) === header["manifest"].sha256, "it makes another manifest than it promises");
  const result = await base.parse(made);
  // The new manifest is signed as it should be: only now is the rest of the stream inflated.
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
    const card = base.kept && source && manifest.others.includes(source);
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
  return [...found, ["manifest.json", made]];
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

/** Bytes of a run: three numbers. */
const RUN = 12;

/** The stream, inflated as it is asked for: the header, and the parts behind it, taken one after the other. */
class Parts {
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

  /** Inflate so many bytes behind what was taken, or all. */
  async ready(bytes: number): Promise<void> {
    const wanted = Math.min(this.at + bytes, this.stream.length);
    while (this.filled < wanted) {
      const { done, value } = await this.reader.read();
      need(!done && this.filled + value!.length <= this.stream.length, "its stream has another length than promised");
      this.stream.set(value!, this.filled);
      this.filled += value!.length;
    }
  }

  /** Refuse a stream that has more than was promised, or bytes behind its end. */
  async end(): Promise<void> {
    let more = !(await this.reader.read()).done;
    // Some platforms pass over what stands behind a stream; where nothing does, one without its last byte is cut.
    const shorter = inflated(this.deflated.subarray(0, -1));
    try {
      while (!more && !(await shorter.read()).done);
      more = true;
    } catch {
      // It is cut.
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

  /** Bytes that are not taken yet. */
  left(): number {
    return this.stream.length - this.at;
  }

  /** Numbers that lie byte by byte: the lowest bytes of all, then the second ones, and so on. */
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

  /** @param least units that a run makes on average, but for one. */
  copies(count: number, base: number, made: number, least = 1): Copies {
    need(count <= made / least + 1, `${count} runs that make ${made}`);
    const numbers = this.values(3 * count, 4) as Uint32Array;
    const copies = new Copies(numbers, count);
    need(copies.fit(base, made), "it copies what is not there");
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

/** How something is made of something like it: runs that are copied, and what is inserted between. */
class Copies {
  constructor(
    private readonly numbers: Uint32Array,
    private readonly count: number,
  ) {}

  *[Symbol.iterator](): Generator<[start: number, count: number, inserted: number]> {
    let end = 0;
    for (let n = 0; n < this.count; n++) {
      const skip = this.numbers[n]!;
      // 0, -1, 1, -2, 2, ... as 0, 1, 2, 3, 4, ...
      const start = end + (skip % 2 ? -(skip + 1) / 2 : skip / 2);
      const count = this.numbers[this.count + n]!;
      end = start + count;
      yield [start, count, this.numbers[2 * this.count + n]!];
    }
  }

  fit(base: number, made: number): boolean {
    let sum = 0;
    for (const [start, count, inserted] of this) {
      sum += count + inserted;
      if (start < 0 || start + count > base) {
        return false;
      }
    }
    return sum === made;
  }

  /** Units that are new. */
  inserted(): number {
    return this.numbers.subarray(2 * this.count).reduce((sum, inserted) => sum + inserted, 0);
  }

  joined(base: Bytes, parts: Parts, bytes: number): Bytes {
    const made = new Uint8Array(bytes);
    const literals = parts.take(this.inserted());
    let at = 0;
    let used = 0;
    for (const [start, count, inserted] of this) {
      made.set(base.subarray(start, start + count), at);
      made.set(literals.subarray(used, (used += inserted)), at + count);
      at += count + inserted;
    }
    return made;
  }

  /** The unit of the base that each is copied from, -1 of what is inserted. */
  sources(made: number): Int32Array {
    const found = new Int32Array(made).fill(-1);
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

/** How the rows of one side come from those of the base. */
interface Side {
  sources: Int32Array;
  /** 1 of new rows and of those that are altered. */
  touched: Uint8Array;
}

function sideOf(fields: { copies: number; changed: number }, parts: Parts, base: number, rows: number): Side {
  const copies = parts.copies(fields.copies, base, rows);
  need(copies.inserted() <= Math.max(parts.left(), base) + limits.new_rows_room, "more new rows than it can tell of");
  const sources = copies.sources(rows);
  const touched = Uint8Array.from(sources, (source) => +(source < 0));
  const kept = new Uint8Array(base);
  for (const source of sources) {
    need(source < 0 || !kept[source], "a row is copied twice");
    kept[source] = 1; // of -1 nothing
  }
  let row = 0;
  for (const distance of parts.values(fields.changed, 4) as Uint32Array) {
    row += distance;
    need(row < rows, "a row is changed that is not there");
    touched[row] = 1;
  }
  return { sources, touched };
}

/** The whole tables file. */
function tables(header: Header, parts: Parts, base: Manifest, content: Bytes, result: Manifest): Bytes {
  const made = new Uint8Array(result.tables.bytes);
  const sides = new Map<string, Side>();
  for (const [name, fields] of Object.entries(header.sides)) {
    const [old, now] = [base, result].map((one) => (name === "item" ? one.items : one.users)?.rows ?? 0);
    need(now! <= 2 * made.length, `${now} rows in tables that have no room for them`); // a row takes half a byte at least
    sides.set(name, sideOf(fields, parts, old!, now!));
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
      made.set(parts.copies(copies, source.length, bytes, limits.bytes_a_run).joined(source, parts, bytes), offset);
      continue;
    }
    const { sources, touched } = sides.get(side)!;
    const source = stored(from!);
    const before = unpacked(units(source.bytes, source.size), source.size, old, lengths[0]);
    const size = sizeOf(dtype);
    const after = room(form, size, bytes / size, lengths[1]);
    need(after.width.length === sources.length, `section '${name}' has other rows than its side`);
    fill(after, before, sources, touched, parts, size);
    const packing = packed(after, form, size, bytes / size);
    if ("pointers" in form) {
      [before, after].forEach((rows, n) => lengths[n]!.set(name, Uint32Array.from(rows.units as Uint32Array, Number)));
    }
    made.set(new Uint8Array(packing.buffer), offset);
  }
  need(waiting.size === 0, "other sections than the manifest's");
  return made;
}

function sizeOf(dtype: string): number {
  return +/\d+$/.exec(dtype)![0] / 8;
}

type Block = [rows: number, width: number, bits: number, byColumn: number, zero: number];
type FormFields = { blocks: Block[] } | { lengths: string; bits: number; zero: number } | { pointers: 1 };

/** The rows of a section: its units, and where each row has its own. */
interface Rows {
  units: Units;
  blocks: Block[];
  first: Uint32Array;
  step: Uint32Array;
  width: Uint32Array;
  zero: Uint32Array;
}

/** Units of a block, with those that fill the last byte; of 4 bits by column, a half is whole columns. */
function unitsOf([rows, width, bits, byColumn]: Block): number {
  return bits === 4 ? 2 * (byColumn ? rows * Math.ceil(width / 2) : Math.ceil((rows * width) / 2)) : rows * width;
}

/** Where the rows of a form lie; ragged ones by the lengths that were told before. */
function laidOut(form: FormFields, size: number, entries: number, lengths: Map<string, Uint32Array>): Rows {
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
  let room = 0;
  for (const block of blocks) {
    const whole = block.every((number) => Number.isSafeInteger(number) && number >= 0);
    need(whole && (block[2] === 4 || block[2] === 8 * size) && (ragged || block[1] > 0), `a block ${block}`);
    room += block[2] === 4 ? unitsOf(block) / 2 : unitsOf(block);
  }
  need(blocks.length > 0 && room <= entries, "a section whose rows take more");
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

/** The rows of a section as it is stored. */
function unpacked(stored: Units, size: number, form: FormFields, lengths: Map<string, Uint32Array>): Rows {
  const rows = laidOut(form, size, stored.length, lengths);
  if ("pointers" in form) {
    rows.units.forEach((_, n) => (rows.units[n] = ((stored[n + 1] as Unit) - (stored[n] as Unit)) as Unit));
    return rows;
  }
  let at = 0;
  let unit = 0;
  for (const block of rows.blocks) {
    const count = unitsOf(block);
    if (block[2] === 4) {
      for (let n = 0; n < count / 2; n++, at++) {
        rows.units[unit + n] = ((stored[at] as number) & 15) as Unit;
        rows.units[unit + count / 2 + n] = (((stored[at] as number) >> 4) & 15) as Unit;
      }
    } else {
      rows.units.set(stored.subarray(at, (at += count)) as never, unit);
    }
    unit += count;
  }
  return rows;
}

/** The rows of a section that is to be made, all of them zeros. */
function room(form: FormFields, size: number, entries: number, lengths: Map<string, Uint32Array>): Rows {
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

/** Copy the rows, and add what those that are touched differ by; what is too large for a unit wraps around. */
function fill(after: Rows, before: Rows, sources: Int32Array, touched: Uint8Array, parts: Parts, size: number): void {
  const total = after.width.reduce((sum, width, row) => sum + (touched[row] ? width : 0), 0);
  const differences = parts.values(total, size);
  let at = 0;
  for (let row = 0; row < sources.length; row++) {
    const source = sources[row]!;
    need(source < before.width.length, "it copies a row that is not there");
    const width = after.width[row]!;
    const kept = source < 0 ? 0 : Math.min(width, before.width[source]!);
    for (let n = 0; n < width; n++) {
      const value = n < kept ? before.units[before.first[source]! + n * before.step[source]!]! : after.zero[row]!;
      const difference = touched[row] ? differences[at++]! : 0;
      after.units[after.first[row]! + n * after.step[row]!] = (exact(after.units, value) + exact(after.units, difference)) as Unit;
    }
  }
}

/** The section as it is stored. */
function packed(rows: Rows, form: FormFields, size: number, entries: number): Units {
  const made = units(new Uint8Array(entries * size), size);
  if ("pointers" in form) {
    rows.units.forEach((length, n) => (made[n + 1] = ((made[n] as Unit) + (length as Unit)) as Unit));
    return made;
  }
  const [, , bits, , zero] = rows.blocks[0]!;
  made.fill(exact(made, bits === 4 ? zero | (zero << 4) : zero));
  let at = 0;
  let unit = 0;
  for (const block of rows.blocks) {
    const count = unitsOf(block);
    if (block[2] === 4) {
      for (let n = 0; n < count / 2; n++, at++) {
        const [low, high] = [rows.units[unit + n], rows.units[unit + count / 2 + n]] as [number, number];
        made[at] = ((low & 15) | ((high & 15) << 4)) as Unit;
      }
    } else {
      made.set(rows.units.subarray(unit, unit + count) as never, at);
      at += count;
    }
    unit += count;
  }
  return made;
}
