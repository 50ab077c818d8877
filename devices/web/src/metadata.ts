/** What a bundle is, of its manifest alone. */

import type { Manifest } from "./manifest.ts";

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
  /** Data, backbone, method, budget, metrics; all optional. */
  about: Record<string, unknown>;
}

export function describe({ version, layout, precision, d, bytes, about, ...rest }: Manifest): Metadata {
  return {
    version,
    layout,
    precision,
    d,
    items: rest.items.rows,
    users: rest.users?.rows ?? 0,
    bytes,
    graphs: [...rest.graphs.keys()],
    titles: rest.sections.has("item_titles"),
    about,
  };
}
