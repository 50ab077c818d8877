/** The measuring page: fetches a request from its server, lets a worker run it, and posts the answer back. */

import type { Answer, Request } from "../bench.ts";
import type { FromWorker, ToWorker } from "./messages.ts";

/** The server's reply: a request with its number; no request yet; or the end of the measurement. */
type ServerReply = { id: number; request: Request } | { wait: true } | { end: string };

/** Time limit for a memory measurement: browsers may delay it until their next garbage collection. */
const MEMORY_MS = 5000;

const tab = (sessionStorage["tab"] ??= Math.random().toString(36).slice(2));
const complaints: string[] = [];

function show(text: string): void {
  document.querySelector("output")!.textContent = text;
}

function complain(what: unknown): void {
  complaints.push(String(what));
}

async function main(): Promise<void> {
  for (;;) {
    const reply = (await (await fetch(`request?tab=${tab}`)).json()) as ServerReply;
    if ("end" in reply) {
      show(reply.end);
      return;
    }
    if ("wait" in reply) {
      continue;
    }
    show("Measuring. Keep this page in view, and the device still.");
    // The server sees this request end if the page is closed or its process dies.
    void fetch(`alive?id=${reply.id}`).catch(() => undefined);
    const said = await work(reply.request);
    await fetch(`answer?id=${reply.id}`, { method: "POST", body: JSON.stringify({ ...said, complaints }) });
    // The next request is for a fresh page.
    location.reload();
    return;
  }
}

function work(request: Request): Promise<Answer> {
  const worker = new Worker("worker.mjs", { type: "module" });
  return new Promise((resolve) => {
    worker.onerror = (event) => resolve({ error: event.message || "the worker could not be loaded" });
    worker.onmessage = async ({ data }: MessageEvent<FromWorker>) => {
      if ("complaint" in data) {
        complain(data.complaint);
      } else if ("measureMemory" in data) {
        const reply: ToWorker = { memory: await memory() };
        worker.postMessage(reply);
      } else {
        resolve(data);
      }
    };
    const first: ToWorker = { request };
    worker.postMessage(first);
  });
}

interface MemoryMeasuring {
  measureUserAgentSpecificMemory?: () => Promise<{ bytes: number }>;
}

/** Return {page: KiB of the page and its worker}; empty if the browser does not report it in time. */
async function memory(): Promise<Record<string, number>> {
  const { measureUserAgentSpecificMemory: measure } = performance as Performance & MemoryMeasuring;
  if (!crossOriginIsolated || measure === undefined) {
    return {};
  }
  const late = new Promise<null>((resolve) => setTimeout(resolve, MEMORY_MS, null));
  const measured = await Promise.race([measure.call(performance), late]);
  return measured === null ? {} : { page: Math.round(measured.bytes / 1024) };
}

addEventListener("error", (event) => complain(event.message));
addEventListener("unhandledrejection", (event) => complain(event.reason));
main().catch(() => {
  show("The connection to edgerec was lost. Start edgerec again, and open the address that it prints.");
  // If edgerec is killed, a headless browser would run forever: it ends with its last page.
  if (navigator.userAgent.includes("Headless")) {
    close();
  }
});
