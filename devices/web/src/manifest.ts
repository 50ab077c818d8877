/** A bundle's manifest, which describes all its files and sections; checked before any other file is opened. */

import { dtypes, limits, session_options } from "../../../edgerec/runtime/bundle-spec.json";
import { BundleError } from "./errors.ts";
import { jsonObject } from "./json.ts";
import type { Bytes } from "./utf8.ts";


/** A file of the bundle. */
export interface FileEntry {
  file: string;
  bytes: number;
  sha256: string;
}

/** An array inside the tables file: offset in bytes, row-major shape, its bytes. */
export type Section = [offset: number, dtype: string, shape: number[], bytes: number];

/** The rows of users or items; ids ascend within a block of rows. */
export interface RowsEntry {
  rows: number;
  /** [width, rows] of each block. */
  blocks: [number, number][];
  ids: "int" | "str" | "none" | "hash64";
}

export interface Graph extends FileEntry {
  tensors: Map<string, Section>;
}

/** Facts about a bundle from its manifest. */
export interface Metadata {
  version: string;
  /** The bundle must not be replaced by one with a smaller index; 0 where the manifest has none. */
  rollbackIndex: number;
  layout: string;
  precision: string;
  /** Number of dimensions of a row. */
  d: number;
  items: number;
  /** 0 if user vectors are computed from histories. */
  users: number;
  /** Size of all files, or of the one file. */
  bytes: number;
  /** "recommend", "score", and optionally "similar" and "encode". */
  graphs: string[];
  titles: boolean;
  /** Names of the items' attributes besides titles. */
  attributes: string[];
  /** Descriptions for people: data, backbone, method, budget, metrics; all optional. */
  about: Record<string, unknown>;
}

export interface Manifest {
  metadata: Metadata;
  items: RowsEntry;
  /** null if user vectors are computed from histories. */
  users: RowsEntry | null;
  tables: FileEntry;
  graphs: Map<string, Graph>;
  sections: Map<string, Section>;
  /** onnxruntime's session options that the layout needs. */
  session: Record<string, string>;
  /** Name of the section with the rows of the most popular items, if there is one. */
  popularItems: string | null;
  others: FileEntry[];
  /** All files except the manifest. */
  ownFiles: FileEntry[];
}

export const MANIFEST = "manifest.json";
/** Maximum size of a manifest; typical ones have a few thousand bytes. */
export const MOST_BYTES = limits.manifest_bytes;

export type Fields = Record<string, unknown>;

/** Parse and check a manifest. @throws BundleError if it is no manifest, damaged, or of a newer major version. */
export function readManifest(content: Bytes): Manifest {
  if (content.length > MOST_BYTES) {
    throw new BundleError(`${MANIFEST} has more than ${MOST_BYTES} bytes; copy it again`);
  }
  let fields: Fields | null = null;
  try {
    fields = jsonObject(content);
  } catch {
    // Reported below.
  }
  if (fields?.["format"] !== "edgerec.bundle") {
    throw new BundleError(`${MANIFEST} describes no bundle of EdgeRec; export one`);
  }
  const version = fields["version"] as string;
  demand(matches(version, /^\d{1,9}\.\d{1,9}$/), "version");
  const major = parseInt(version);
  if (major > limits.major) {
    throw new BundleError(`the bundle has version ${version}, this reader knows ${limits.major}.x; update edgerec`);
  }
  const { requires = [] } = fields;
  const required = list(requires, "requires").map((name) => demand(matches(name, /./) && name, "requires"));
  if (required.length > 0) {
    throw new BundleError(`the bundle requires ${required.join(", ")}, which this reader does not know; update edgerec`);
  }
  const tables = file(fields["tables"], "tables");
  const places = (value: unknown, name: string, most: number) =>
    mapped(value, name, most, (place, of) => section(place, of, tables));
  const graphs = mapped(fields["graphs"], "graphs", limits.graphs, (entry, name) => ({
    ...file(entry, name, limits.graph_bytes),
    tensors: places((entry as Fields)["tensors"], name, limits["tensors"]),
  }));
  demand(graphs.has("recommend"), "recommend");
  const others = list(fields["other_files"], "other_files").map((entry) => file(entry, "other_files"));
  const items = rowsEntry(fields["items"], "items", major);
  const users = fields["users"] === null ? null : rowsEntry(fields["users"], "users", major);
  const sections = places(fields["sections"], "sections", limits["sections"]);
  const ownFiles = [tables, ...graphs.values(), ...others];
  const names = new Set(ownFiles.map(({ file }) => file));
  demand(ownFiles.length <= limits.files && names.size === ownFiles.length, "other_files");
  const wanted = object(fields["session"], "session");
  const { rollback_index = 0 } = fields;
  whole(rollback_index, "rollback_index");
  whole(fields["d"], "d", 1);
  demand(fields["layout"], "layout");
  demand(fields["precision"], "precision");
  object(fields["about"], "about");
  const { item_attributes } = fields;
  if (item_attributes !== undefined) {
    const names = list(item_attributes, "item_attributes");
    const different = names.every((name, n) => matches(name, /[^]/) && names.indexOf(name) === n);
    demand(different && names.length > 0 && names.length <= limits.attributes, "item_attributes");
  }
  const manifest = {
    metadata: metadataOf(fields, content.length, ownFiles),
    items,
    users,
    tables,
    graphs,
    sections,
    // Other options of onnxruntime could name files.
    session: Object.fromEntries(session_options.map((name) => [name, `${wanted[name] ?? 0}`])),
    popularItems: fields["encoder"] !== null ? emptyHistory(object(fields["encoder"], "encoder")) : sections.has(POPULAR) ? POPULAR : null,
    others,
    ownFiles,
  };
  checkSections(manifest, major);
  return manifest;
}

/** The facts in a manifest that was checked. */
interface Checked {
  version: string;
  rollback_index?: number;
  layout: unknown;
  precision: unknown;
  d: number;
  items: RowsEntry;
  users: RowsEntry | null;
  graphs: Fields;
  about: Fields;
  item_attributes?: string[];
}

/** Return the facts of a manifest of `bytes` bytes that was checked. */
export function metadataOf(fields: Fields, bytes: number, files: readonly Pick<FileEntry, "bytes">[]): Metadata {
  const { version, rollback_index = 0, layout, precision, d, items, users, graphs, about, item_attributes = [] } = fields as unknown as Checked;
  return {
    version,
    rollbackIndex: rollback_index,
    layout: `${layout}`,
    precision: `${precision}`,
    d,
    items: items.rows,
    users: users?.rows ?? 0,
    bytes: files.reduce((sum, entry) => sum + entry.bytes, bytes),
    graphs: Object.keys(graphs),
    titles: "item_titles" in (fields["sections"] as Fields), // quoted: the build shortens this name elsewhere
    attributes: item_attributes,
    about,
  };
}

const POPULAR = "popular_items";

function emptyHistory(encoder: Fields): string | null {
  const name = encoder["empty_history"];
  demand(name === null || typeof name === "string", "empty_history");
  return name as string | null;
}

/** Check that the sections that readers use exist and are vectors of whole numbers of the right length. */
function checkSections({ metadata, sections, items, users, popularItems }: Manifest, major: number): void {
  const vector = (name: string, length?: number) => {
    const [, dtype, shape] = demand(sections.get(name), name);
    demand(shape.length === 1 && (length ?? shape[0]) === shape[0] && !dtype.startsWith("f"), name);
    return dtype;
  };
  const column = (name: string, kind: RowsEntry["ids"], rows: number, coded = major > 1) => {
    if (coded && kind !== "none") {
      demand(vector(`${name}s`) === "uint8", `${name}s`);
    } else if (kind === "int") {
      vector(`${name}s`, rows);
    } else if (kind === "str") {
      vector(`${name}s`);
      vector(`${name}_offsets`, rows + 1);
    }
  };
  column("item_id", items.ids, items.rows);
  if (users) {
    column("user_id", users.ids, users.rows);
  }
  if (sections.has("item_titles")) {
    column("item_title", "str", items.rows, false);
  }
  metadata.attributes.forEach((_, n) => {
    const [name, offsets] = [`attribute_${n}`, `attribute_${n}_text_offsets`];
    demand(/^uint(8|16|32)$/.test(vector(name, items.rows)) && vector(`${name}_texts`) === "uint8", name);
    vector(offsets);
    demand(sections.get(offsets)![3] > 0, offsets);
  });
  if (popularItems != null) {
    vector(popularItems);
  }
}

function demand<T>(holds: T, name: unknown): Exclude<T, null | undefined | false> {
  if ((holds ?? false) === false) {
    throw new BundleError(`${MANIFEST} is damaged at '${name}'; copy it again`);
  }
  return holds as Exclude<T, null | undefined | false>;
}

/** Match text; `test` alone would convert a missing value to the text "undefined". */
const matches = (value: unknown, pattern: RegExp) => typeof value === "string" && pattern.test(value);

const object = (value: unknown, name: string) =>
  demand(Object(value) === value && !Array.isArray(value) && (value as Fields), name);

const list = (value: unknown, name: string) => demand(Array.isArray(value) && (value as unknown[]), name);

function mapped<T>(value: unknown, name: string, most: number, parse: (entry: unknown, name: string) => T): Map<string, T> {
  const entries = Object.entries(object(value, name));
  demand(entries.length <= most, name);
  return new Map(entries.map(([key, entry]) => [key, parse(entry, key)]));
}

const whole = (value: unknown, name: string, least = 0) =>
  demand(Number.isSafeInteger(value) && (value as number) >= least && (value as number), name);

/** File names never contain a path. */
function file(value: unknown, name: string, most = Infinity): FileEntry {
  const entry = object(value, name) as unknown as FileEntry;
  demand(matches(entry.file, /^(?!\.)[\w.-]{1,255}$/) && matches(entry.sha256, /^[0-9a-f]{64}$/), entry.file ?? name);
  demand(whole(entry.bytes, name) <= most, name);
  return entry;
}

function section(value: unknown, name: string, tables: FileEntry): Section {
  const [offset, dtype, shape] = list(value, name) as [number, string, number[]];
  demand(dtypes.includes(dtype) && list(shape, name).length <= limits.axes, name);
  const bits = +/\d+/.exec(dtype)![0];
  const bytes = shape.reduce<number>((product, length) => product * whole(length, name), bits / 8);
  demand(whole(offset, name) + bytes <= tables.bytes && offset % (bits / 8) === 0, name);
  return [offset, dtype, shape, bytes];
}

function rowsEntry(value: unknown, name: string, major: number): RowsEntry {
  const one = object(value, name) as unknown as RowsEntry;
  demand(matches(one.ids, major > 1 ? /^(int|str|none|hash64)$/ : /^(int|str|none)$/), name);
  const sum = list(one.blocks, name).reduce<number>((total, block) => {
    const [width, count] = list(block, name);
    whole(width, name, 1);
    return total + whole(count, name, 1);
  }, 0);
  demand(whole(one.rows, name, 1) === sum, name);
  return one;
}
