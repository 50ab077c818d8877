/** What a bundle's manifest says, as far as a reader of graphs needs it. */

/** A file of the bundle. */
export interface FileEntry {
  file: string;
  bytes: number;
  sha256: string;
}

/** Rows of items or users. */
export interface Rows {
  rows: number;
}

export interface Manifest {
  version: string;
  layout: string;
  precision: string;
  d: number;
  items: Rows;
  users: Rows | null;
  tables: FileEntry;
  graphs: Record<string, FileEntry>;
  /** Pairs for onnxruntime's AddSessionConfigEntry. */
  session: Record<string, string>;
}

/** A bundle that is no bundle, damaged, incomplete, or newer than this reader. */
export class BundleError extends Error {
  override name = "BundleError";
}

export const FILE_NAME = "manifest.json";
const FORMAT = "edgerec.bundle";
const MAJOR = 1;

/** Raises BundleError where it is no manifest, or one of a newer major version. */
export function readManifest(content: Uint8Array): Manifest {
  let fields: unknown;
  try {
    fields = JSON.parse(new TextDecoder().decode(content));
  } catch {
    throw new BundleError(`${FILE_NAME} is no JSON; copy the bundle again`);
  }
  if (!isObject(fields) || fields["format"] !== FORMAT) {
    throw new BundleError(`${FILE_NAME} describes no bundle of EdgeRec; export one with edgerec export`);
  }
  if (!(Number.parseInt(String(fields["version"]), 10) <= MAJOR)) {
    throw new BundleError(`the bundle has version ${fields["version"]}, this reader knows ${MAJOR}.x; update edgerec`);
  }
  const whole =
    isRows(fields["items"]) &&
    (fields["users"] === null || isRows(fields["users"])) &&
    isFile(fields["tables"]) &&
    isObject(fields["session"]) &&
    isObject(fields["graphs"]) &&
    Object.values(fields["graphs"]).every(isFile);
  if (!whole) {
    throw new BundleError(`${FILE_NAME} is incomplete; copy the bundle again`);
  }
  return fields as unknown as Manifest;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isRows(value: unknown): value is Rows {
  return isObject(value) && Number.isInteger(value["rows"]);
}

/** File names never contain a path. */
function isFile(value: unknown): value is FileEntry {
  return (
    isObject(value) &&
    /^[^/\\:]+$/.test(String(value["file"])) &&
    Number.isInteger(value["bytes"]) &&
    typeof value["sha256"] === "string"
  );
}
