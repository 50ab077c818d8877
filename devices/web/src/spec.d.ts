/** Limits of a bundle that readers enforce: edgerec/runtime/bundle-spec.json, explained in docs/reference/bundle.md. */
declare module "*/bundle-spec.json" {
  export const operators: string[];
  export const typed_as_all: string[];
  export const typed_as_first: string[];
  export const session_options: string[];
  export const reader_options: Record<string, string>;
  export const dtypes: string[];
  export const limits: Record<
    | "major"
    | "patch_major"
    | "manifest_bytes"
    | "json_values"
    | "json_levels"
    | "json_members"
    | "files"
    | "graphs"
    | "sections"
    | "tensors"
    | "axes"
    | "attributes"
    | "graph_bytes"
    | "graph_levels"
    | "graph_messages"
    | "header_bytes"
    | "head_bytes"
    | "growth"
    | "growth_room"
    | "inflated"
    | "inflated_room"
    | "bytes_a_run"
    | "new_rows_room",
    number
  >;
}

/** `common.ts`, built into a file of its own. */
declare module "*/edgerec-reading.mjs" {
  export const metadata: typeof import("./common.ts").metadata;
  export const apply: typeof import("./common.ts").apply;
}
