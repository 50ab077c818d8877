/** Messages between the page and the worker. */

import type { Answer, Request } from "../bench.ts";

export type ToWorker = { request: Request } | { memory: Record<string, number> };

export type FromWorker = { complaint: string } | { measureMemory: true } | Answer;
