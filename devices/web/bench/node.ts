/** The agent in Node: one request on standard input, one answer on standard output.
 *
 * usage: node node.mjs FOLDER      (of onnxruntime-web's files)
 */

import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

import { compileKernel, folder as source } from "../src/host-node.ts";
import { answer, type Facts, type Host, type Ort, type Request } from "./bench.ts";

const STATUS = /^(VmHWM|VmRSS|RssAnon|RssFile|RssShmem|VmSwap):\s+(\d+) kB/gm;

/** Return KiB of this process, with the kernel's figures if there is /proc. */
async function memory(): Promise<Record<string, number>> {
  const figures: Record<string, number> = { js_heap: Math.round(process.memoryUsage().heapUsed / 1024) };
  try {
    for (const [, name, kib] of readFileSync("/proc/self/status", "utf8").matchAll(STATUS)) {
      figures[name!] = Number(kib);
    }
  } catch {
    // No /proc here.
  }
  return figures;
}

async function facts(): Promise<Facts> {
  return { node: process.versions.node, v8: process.versions.v8, cores: availableParallelism(), simd: true };
}

async function main(folder: string): Promise<void> {
  const base = pathToFileURL(join(folder, "/"));
  const host: Host = {
    async loadOrt(): Promise<Ort> {
      const ort = (await import(new URL("ort.node.min.mjs", base).href)) as Ort;
      ort.env.wasm.wasmPaths = base.href;
      return ort;
    },
    compileKernel: () => compileKernel(),
    source,
    memory,
    facts,
    threads: true,
  };
  const said = await answer(JSON.parse(await text(process.stdin)) as Request, host);
  process.stdout.write(JSON.stringify(said), () => process.exit(0)); // threads of WebAssembly would stay
}

void main(process.argv[2]!);
