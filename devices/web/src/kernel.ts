/**
 * Answers in bundle rows by the kernel: devices/kernel, compiled to WebAssembly. A bundle has a memory of its own, which
 * holds the tables; once it is open, it grows by no more than what the longest request lists, and its answer.
 */

import { readFile, type OpenOptions } from "./bundle.ts";
import { idHash } from "./coded.ts";
import { BundleError, firstLine, MissingError, RequestError, SignatureError } from "./errors.ts";
import { decoded, plain, type Id } from "./ids.ts";
import { MANIFEST, metadataOf, MOST_BYTES, type Fields, type FileEntry, type RowsEntry, type Section } from "./manifest.ts";
import { demandRarity } from "./ranking.ts";
import type { Ranking, RowLimits, RowModel, RowSubject } from "./recommender.ts";
import { sha256 } from "./sha256.ts";
import { utf8, type Source } from "./source.ts";

export interface LoadOptions extends OpenOptions {
  /**
   * The compiled kernel, or the place of its file; by default, of `edgerec-kernel.wasm` and `edgerec-kernel-relaxed.wasm`
   * next to this module, it is the one that is faster here.
   */
  kernel?: WebAssembly.Module | string | URL;
}

type Call = (...words: number[]) => number;

/** Names as in `EXPORTED` of build_wasm.py, which shortens them: an export is known by its place alone. Calls are
 * those of edgerec_kernel.h, whose numbers are pointers, sizes, rows and statuses. */
type Exports = [
  er_work_size: Call,
  er_recommend: Call,
  er_similar: Call,
  er_popular: Call,
  er_score: Call,
  er_encode: Call,
  er_row_of_int: (model: number, side: number, id: bigint) => number,
  er_row_of_text: Call,
  er_int_of_row: Call,
  er_text_of_row: Call,
  er_title: Call,
  er_attribute: Call,
  er_manifest_file: Call,
  er_open: Call,
  __heap_base: WebAssembly.Global,
];

/** The part of a manifest that is read here, after the kernel has checked it. */
interface Parsed {
  tables: FileEntry;
  graphs: Record<string, FileEntry>;
  other_files: FileEntry[];
  items: RowsEntry;
  users: RowsEntry | null;
  sections: Record<string, Section>;
}

const PAGE = 65536;
/** Pages of the kernel's own constants and stack: `OWN` of build_wasm.py. */
const OWN_PAGES = 2;
/** Statuses, and the groups of er_kind, by 32. */
const [ER_MEMORY, ER_FILE] = [1, 72];
const [REQUESTS, SIGNATURES] = [1, 3];
/** What people can do about some statuses; the others say by their number what is damaged. */
const MESSAGES: Record<number, string> = {
  35: "the vector must be finite", // ER_VECTOR
  36: "the vector has scores beyond float32; give a smaller one", // ER_SCORES
  37: "the history is empty, and this bundle names no popular items; export it again with --item-counts", // ER_EMPTY
  38: "this bundle names no popular items; export it again with --item-counts", // ER_NO_POPULAR
  43: "this bundle does not say which items are rare: rarity needs one without users of svd, lae with the encoder 'sum', or a fitted linear encoder", // ER_RARITY
  65: "the bundle has a newer version than this reader; update edgerec", // ER_VERSION
  66: "the bundle requires what this reader does not know; update edgerec", // ER_FEATURE
  73: "integers of version 1.0 need onnxruntime; export the bundle again, as version 2.0", // ER_SCALES
  76: "the bundle is too large for the kernel; use onnxruntime", // ER_UNSUPPORTED
  98: "the bundle has a smaller rollback index than is wanted; get the newest one", // ER_ROLLBACK
};
const NAME_BYTES = 256;

/** The kernel that is next to this module. */
let compiled: Promise<WebAssembly.Module> | undefined;

/**
 * Read the bundle of a source, check it, and open it.
 *
 * @param compile compiles the kernel at a place.
 * @throws BundleError no bundle, a missing, truncated or changed file, or one that the kernel refuses; SignatureError;
 *   MissingError without the kernel, without memory for the bundle, or if checksums cannot be computed.
 */
export async function openKernel(
  source: Source,
  { kernel, trusted, verify = true, minRollbackIndex = 0, onProgress }: LoadOptions,
  compile: (place?: string | URL) => Promise<WebAssembly.Module>,
): Promise<RowModel> {
  const module = kernel instanceof WebAssembly.Module ? kernel : kernel ? compile(kernel) : (compiled ??= compile());
  const fetched = Promise.resolve(module).catch((error: unknown) => {
    compiled = undefined;
    throw new MissingError(`the kernel cannot be loaded (${firstLine(error)}); serve edgerec-kernel*.wasm next to its module`);
  });
  fetched.catch(() => undefined); // awaited after the manifest
  const json = await source.read(MANIFEST, MOST_BYTES, true);
  if (trusted) {
    await (await import("./signature.ts")).checkSignature(json, trusted, { sha256, SignatureError, MissingError });
  }

  const memory = new WebAssembly.Memory({ initial: OWN_PAGES });
  const { exports } = await WebAssembly.instantiate(await fetched, { env: { a: memory } });
  const [
    er_work_size,
    er_recommend,
    er_similar,
    er_popular,
    er_score,
    er_encode,
    er_row_of_int,
    er_row_of_text,
    er_int_of_row,
    er_text_of_row,
    er_title,
    er_attribute,
    er_manifest_file,
    er_open,
    __heap_base,
  ] = Object.values(exports) as unknown as Exports;
  let end: number = __heap_base.value;

  /** Take bytes at a multiple of 64. */
  function room(count: number): number {
    const start = Math.ceil(end / 64) * 64;
    end = start + count;
    const pages = Math.ceil((end - memory.buffer.byteLength) / PAGE);
    try {
      memory.grow(Math.max(0, pages));
    } catch {
      throw new MissingError(`memory allocation failed: the bundle takes ${Math.ceil(end / 2 ** 20)} MiB; export a smaller one`);
    }
    return start;
  }
  const bytes = (at: number, count: number) => new Uint8Array(memory.buffer, at, count);
  const setInts = (at: number, values: number[]) => new Uint32Array(memory.buffer, at, values.length).set(values);
  const int = (at: number) => new Uint32Array(memory.buffer, at, 1)[0]!;
  const floats = (at: number, count: number) => new Float32Array(memory.buffer, at, count);

  /** Copy bytes into the memory. */
  function put(content: Uint8Array): number {
    const at = room(content.length);
    bytes(at, content.length).set(content);
    return at;
  }
  function check(status: number): void {
    if (status) {
      const kind = status >> 5;
      const said = MESSAGES[status] ?? `the bundle is damaged (kernel status ${status}); get it again`;
      throw kind === REQUESTS ? new RequestError(said) : new (kind === SIGNATURES ? SignatureError : BundleError)(said);
    }
  }

  const jsonAt = put(json);
  /** Arguments: an er_source, or an er_request; results: a number of 64 bits, a length, the model. */
  const [words, number, length, model, name] = [room(64), room(8), room(4), room(4), room(NAME_BYTES)];
  setInts(words, [jsonAt, json.length]);
  const sizes = new Map<string, number>();
  for (let n = 0, status = 0; !status; n++) {
    status = er_manifest_file(words, n, name, number);
    if (status !== ER_FILE) {
      check(status);
      const [file] = decoded(bytes(name, NAME_BYTES)).split("\0");
      sizes.set(file!, int(number) + int(number + 4) * 2 ** 32);
    }
  }
  const parsed = JSON.parse(decoded(json)) as Parsed & Fields;
  const { items, users } = parsed;
  const tables = parsed["tables"]; // quoted: the build shortens this name elsewhere
  for (const entry of trusted ? [...Object.values(parsed.graphs), ...parsed.other_files] : []) {
    await readFile(source, entry, true);
  }
  const content = await readFile(source, tables, !!trusted || verify, (loaded) => onProgress?.({ loaded, total: tables.bytes }));
  await source.keepOnly?.([MANIFEST, ...sizes.keys()]);
  const given = [jsonAt, json.length, put(content), content.length];
  setInts(words, [...given, 0, 0, 0, 0, 0, 0, minRollbackIndex % 2 ** 32, minRollbackIndex / 2 ** 32]);
  const arena = room(0);
  let [status, size] = [ER_MEMORY, 0];
  for (let tries = 4; status === ER_MEMORY && tries--; size = int(length)) {
    end = arena;
    room(size);
    status = er_open(words, arena, size, length, model);
  }
  check(status);

  const opened = int(model);
  const metadata = metadataOf(parsed, json.length, [...sizes.values()].map((bytes) => ({ bytes })));
  metadata.bytes = (await source.fileBytes?.(tables.bytes)) ?? metadata.bytes;
  const { d, items: rows } = metadata;
  /** Bytes of a text at most: no id is longer than its section. */
  const most = Math.max(64, ...["item_ids", "user_ids"].map((name) => parsed["sections"][name]?.[2][0] ?? 0));
  const vectorAt = room(4 * d);
  const workSize = er_work_size(opened);
  const work = [room(workSize), workSize];
  /** Rows of a request, then those of an answer and their scores; or a text. It is the last, and the only one to grow. */
  const lists = room(most);
  let [rowsAt, scoresAt] = [0, 0];
  let isClosed = false;

  /** Write an er_request, before the place of k answers. Its lists have each row once, and in one of them. */
  function request({ user = -1, history, vector }: RowSubject, { k = 0, gone, allowed }: Partial<RowLimits> = {}, rarity = 0): number {
    if (isClosed) {
      throw new RequestError("this bundle was closed; load it again");
    }
    const past = new Set(history);
    const list = [...(allowed ?? gone ?? [])].filter((row) => !past.has(row) && !(allowed && gone!.has(row)));
    rowsAt = lists + 4 * (past.size + list.length);
    scoresAt = rowsAt + 4 * k;
    end = lists;
    room(scoresAt + 4 * k - lists);
    setInts(lists, [...past, ...list]);
    if (vector) {
      const values: unknown[] = Array.from(vector);
      if (values.length !== d || !values.every((value) => typeof value === "number")) {
        throw new RequestError(`a vector is ${d} numbers, of which the largest is between 2^-32 and 2^32`);
      }
      floats(vectorAt, d).set(values as number[]);
    }
    const listed = [lists + 4 * past.size, list.length];
    const nothing = [0, 0];
    const [excluded, only] = allowed ? [nothing, listed] : [listed, nothing];
    setInts(words, [history ? lists : 0, past.size, vector ? vectorAt : 0, user, ...excluded, ...only]);
    floats(words + 32, 1)[0] = rarity;
    return words;
  }

  function ranking(status: number): Ranking {
    check(status);
    const found = int(length);
    const scores = floats(scoresAt, found);
    return Array.from(new Int32Array(memory.buffer, rowsAt, found), (row, at) => [row, scores[at]!]);
  }
  const answer = () => [rowsAt, scoresAt, length, ...work];

  /** Refuse what the bundle was exported without. */
  function demandGraph(name: string): void {
    if (!metadata.graphs.includes(name)) {
      throw new RequestError(`this bundle has no '${name}' graph: it was exported without`);
    }
  }

  function rowOf(side: number, ids: RowsEntry["ids"], id: Id): number {
    if (ids === "int" || ids === "none") {
      const whole = typeof id === "bigint" ? BigInt.asIntN(64, id) === id : Number.isSafeInteger(id);
      return whole ? er_row_of_int(opened, side, BigInt(id)) : -1;
    }
    let text = new TextEncoder().encode(typeof id === "string" ? id : "");
    // Text with a lone surrogate is no id, but encodes like another text.
    if (utf8(text) !== id) {
      return -1;
    }
    if (text.length > most && ids === "hash64") {
      text = new TextEncoder().encode(idHash(id));
    }
    if (text.length > most) {
      return -1;
    }
    bytes(lists, text.length).set(text);
    return er_row_of_text(opened, side, lists, text.length);
  }

  function idOf(side: number, ids: RowsEntry["ids"], row: number): Id {
    if (ids === "int" || ids === "none") {
      check(er_int_of_row(opened, side, row, number));
      return plain(new BigInt64Array(memory.buffer, number, 1)[0]!);
    }
    check(er_text_of_row(opened, side, row, lists, most, length));
    return decoded(bytes(lists, int(length)));
  }

  function text(status: number): string {
    check(status);
    return decoded(bytes(int(number), int(length)));
  }

  return {
    metadata,
    ids(name) {
      const side = +(name === "user");
      const { ids } = side ? users! : items;
      return { row: (id) => rowOf(side, ids, id), id: (row) => idOf(side, ids, row) };
    },
    title: (row) => text(er_title(opened, row, number, length)),
    attribute: (row, n) => text(er_attribute(opened, row, n, number, length)),
    async recommend(subject, limits, rarity = 0) {
      demandRarity(rarity, RequestError);
      return ranking(er_recommend(opened, request(subject, limits, rarity), limits.k, ...answer()));
    },
    popular: async (limits) => ranking(er_popular(opened, request({}, limits), limits.k, ...answer())),
    async similar(row, limits) {
      demandGraph("similar");
      return ranking(er_similar(opened, row, request({}, limits), limits.k, ...answer()));
    },
    async score(subject, candidates) {
      const scores = new Float32Array(candidates.length);
      for (let start = 0; start === 0 || start < scores.length; start += rows) {
        const part = candidates.slice(start, start + rows);
        const at = request(subject, { k: part.length });
        setInts(rowsAt, part);
        check(er_score(opened, at, rowsAt, part.length, scoresAt, ...work));
        scores.set(floats(scoresAt, part.length), start);
      }
      return scores;
    },
    async encode(history) {
      demandGraph("encode");
      check(er_encode(opened, request({ history }), vectorAt, ...work));
      return floats(vectorAt, d).slice();
    },
    async close() {
      isClosed = true;
    },
  };
}
