/** A bundle's manifest: what is in it and where, checked before anything else is opened. */

import { BundleError } from "./errors.ts";

/** A file of the bundle. */
export interface FileEntry {
  file: string;
  bytes: number;
  sha256: string;
}

/** An array inside the tables file: offset in bytes, row-major shape, its bytes. */
export type Section = [offset: number, dtype: string, shape: number[], bytes: number];

/** One side of the bundle, users or items; ids ascend inside a block of rows. */
export interface Side {
  rows: number;
  /** [width, rows] of each block. */
  blocks: [number, number][];
  ids: "int" | "str" | "none";
}

export interface Graph extends FileEntry {
  tensors: Map<string, Section>;
}

/** What a bundle is, of its manifest alone. */
export interface Metadata {
  version: string;
  layout: string;
  precision: string;
  /** Dimensions of a row. */
  d: number;
  items: number;
  /** 0 where a user's vector is computed from a history. */
  users: number;
  /** Of all files. */
  bytes: number;
  /** "recommend", "score", and where there is room "similar" and "encode". */
  graphs: string[];
  titles: boolean;
  /** For people: data, backbone, method, budget, metrics; all optional. */
  about: Record<string, unknown>;
}

export interface Manifest {
  metadata: Metadata;
  items: Side;
  /** null where a user's vector is computed from a history. */
  users: Side | null;
  tables: FileEntry;
  graphs: Map<string, Graph>;
  sections: Map<string, Section>;
  /** onnxruntime's session options that the layout wants. */
  session: Record<string, string>;
  /** The section with the rows that answer an empty history. */
  popular: string | null;
  others: FileEntry[];
}

export const MANIFEST = "manifest.json";
/** A manifest of a million blocks would have less. */
export const MOST_BYTES = 16 << 20;
const MAJOR = 1;
/** Of onnxruntime's session options the only one that bundles need; others could name files. */
const PREPACKING = "session.disable_prepacking";

type Fields = Record<string, unknown>;

/** @throws BundleError where it is no manifest, a damaged one, or one of a newer major version. */
export function readManifest(content: Uint8Array): Manifest {
  let fields: Fields | null = null;
  try {
    fields = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(content));
  } catch {
    // Told below.
  }
  if (fields?.["format"] !== "edgerec.bundle") {
    throw new BundleError(`${MANIFEST} describes no bundle of EdgeRec; export one`);
  }
  const version = String(fields["version"]);
  if (!(parseInt(version) <= MAJOR)) {
    throw new BundleError(`the bundle has version ${version}, this reader knows ${MAJOR}.x; update edgerec`);
  }
  const tables = file(fields["tables"], "tables");
  const places = (value: unknown, name: string) => mapped(value, name, (place, of) => section(place, of, tables));
  const graphs = mapped(fields["graphs"], "graphs", (entry, name) => ({
    ...file(entry, name),
    tensors: places((entry as Fields)["tensors"], name),
  }));
  demand(graphs.has("recommend"), "recommend");
  const others = list(fields["other_files"], "other_files").map((entry) => file(entry, "other_files"));
  const items = side(fields["items"], "items");
  const users = fields["users"] === null ? null : side(fields["users"], "users");
  const sections = places(fields["sections"], "sections");
  const files = [tables, ...graphs.values(), ...others];
  const manifest = {
    metadata: {
      version,
      layout: `${fields["layout"]}`,
      precision: `${fields["precision"]}`,
      d: whole(fields["d"], "d", 1),
      items: items.rows,
      users: users?.rows ?? 0,
      bytes: files.reduce((sum, entry) => sum + entry.bytes, content.length),
      graphs: [...graphs.keys()],
      titles: sections.has("item_titles"),
      about: object(fields["about"], "about"),
    },
    items,
    users,
    tables,
    graphs,
    sections,
    session: { [PREPACKING]: `${object(fields["session"], "session")[PREPACKING] ?? 0}` },
    popular: (fields["encoder"] as { empty_history: string | null } | null)?.empty_history ?? null,
    others,
  };
  checkSections(manifest);
  return manifest;
}

/** Refuse sections that are not there, or are no vectors of whole numbers of the length that readers rely on. */
function checkSections({ sections, items, users, popular }: Manifest): void {
  const vector = (name: string, length?: number) => {
    const [, dtype, shape] = demand(sections.get(name), name);
    demand(shape.length === 1 && (length ?? shape[0]) === shape[0] && !dtype.startsWith("f"), name);
  };
  const texts = (name: string, rows: number) => {
    vector(`${name}s`);
    vector(`${name}_offsets`, rows + 1);
  };
  const ids = (name: string, rows: Side | null) => {
    if (rows?.ids === "int") {
      vector(`${name}s`, rows.rows);
    } else if (rows?.ids === "str") {
      texts(name, rows.rows);
    }
  };
  ids("item_id", items);
  ids("user_id", users);
  if (sections.has("item_titles")) {
    texts("item_title", items.rows);
  }
  if (popular !== null) {
    vector(popular);
  }
}

function demand<T>(holds: T, name: unknown): NonNullable<T> {
  if (holds == null || holds === false) {
    throw new BundleError(`${MANIFEST} is damaged at '${name}'; copy it again`);
  }
  return holds;
}

function object(value: unknown, name: string): Fields {
  demand(value !== null && typeof value === "object" && !Array.isArray(value), name);
  return value as Fields;
}

function list(value: unknown, name: string): unknown[] {
  demand(Array.isArray(value), name);
  return value as unknown[];
}

function mapped<T>(value: unknown, name: string, parse: (entry: unknown, name: string) => T): Map<string, T> {
  return new Map(Object.entries(object(value, name)).map(([key, entry]) => [key, parse(entry, key)]));
}

function whole(value: unknown, name: string, least = 0): number {
  demand(Number.isSafeInteger(value) && (value as number) >= least, name);
  return value as number;
}

/** File names never contain a path. */
function file(value: unknown, name: string): FileEntry {
  const entry = object(value, name) as unknown as FileEntry;
  demand(/^(?!\.\.?$)[^/\\:\0]+$/.test(entry.file) && /^[0-9a-f]{64}$/.test(entry.sha256), entry.file);
  whole(entry.bytes, name);
  return entry;
}

function section(value: unknown, name: string, tables: FileEntry): Section {
  const [offset, dtype, shape] = list(value, name) as [number, string, number[]];
  const [, bits] = demand(/^(?:float(?=\d\d)|u?int)(8|16|32|64)$/.exec(dtype), name);
  const bytes = list(shape, name).reduce<number>((product, length) => product * whole(length, name), +bits! / 8);
  demand(whole(offset, name) + bytes <= tables.bytes, name);
  return [offset, dtype, shape, bytes];
}

function side(value: unknown, name: string): Side {
  const one = object(value, name) as unknown as Side;
  demand(/^(int|str|none)$/.test(one.ids), name);
  const sum = list(one.blocks, name).reduce<number>((total, block) => {
    const [width, count] = list(block, name);
    whole(width, name, 1);
    return total + whole(count, name, 1);
  }, 0);
  demand(whole(one.rows, name, 1) === sum, name);
  return one;
}
