/** The worker: runs one request, so that the page stays responsive and threads may block. */

import { compileKernel } from "../../src/host.ts";
import { web } from "../../src/source.ts";
import { answer, type Facts, type Host, type Ort, type Request } from "../bench.ts";
import type { FromWorker, ToWorker } from "./messages.ts";

const base = new URL("ort/", location.href);
const BUILDS: Record<string, string> = { webgpu: "ort.webgpu.min.mjs" };

function say(message: FromWorker): void {
  postMessage(message);
}

for (const level of ["error", "warn"] as const) {
  const original = console[level];
  console[level] = (...words: unknown[]) => {
    say({ complaint: words.map(String).join(" ") });
    original(...words);
  };
}

interface Brand {
  brand: string;
  version: string;
}
interface UserAgentData {
  getHighEntropyValues(hints: string[]): Promise<{
    fullVersionList?: Brand[];
    platform?: string;
    platformVersion?: string;
    architecture?: string;
    bitness?: string;
    model?: string;
  }>;
}
interface Extras {
  userAgentData?: UserAgentData;
  deviceMemory?: number;
  gpu?: { requestAdapter(): Promise<{ info?: { vendor?: string; architecture?: string } } | null> };
}
const machine = navigator as Navigator & Extras;

/** Return facts about the browser; unknown facts are absent. */
async function facts(): Promise<Facts> {
  const known: Facts = {
    user_agent: machine.userAgent,
    cores: machine.hardwareConcurrency,
    cross_origin_isolated: crossOriginIsolated,
    simd: true, // onnxruntime-web has no build without it
    webgpu: await gpuName(),
  };
  const hints = ["fullVersionList", "platformVersion", "architecture", "bitness", "model"];
  const said = await machine.userAgentData?.getHighEntropyValues(hints);
  const real = said?.fullVersionList?.filter(({ brand }) => !/Not.?A.?Brand/i.test(brand));
  const optional: Record<string, string | number | undefined> = {
    browser: real?.map(({ brand, version }) => `${brand} ${version}`).at(-1),
    os: [said?.platform, said?.platformVersion].filter(Boolean).join(" "),
    architecture: [said?.architecture, said?.bitness].filter(Boolean).join(" "),
    board: said?.model,
    device_memory_gib: machine.deviceMemory,
  };
  for (const [name, value] of Object.entries(optional)) {
    if (value) {
      known[name] = value;
    }
  }
  return known;
}

/** Return vendor and architecture of WebGPU's graphics processor, or "none". */
async function gpuName(): Promise<string> {
  const adapter = await machine.gpu?.requestAdapter().catch(() => null);
  return adapter ? [adapter.info?.vendor, adapter.info?.architecture].filter(Boolean).join(" ") || "unnamed" : "none";
}

let memoryTold: (figures: Record<string, number>) => void;

async function work(request: Request): Promise<void> {
  const provider = request.provider ?? "wasm";
  const host: Host = {
    async loadOrt(): Promise<Ort> {
      if (provider === "webgpu" && (await gpuName()) === "none") {
        throw new Error("this browser offers no WebGPU; measure with the device 'browser', or in another browser");
      }
      const ort = (await import(new URL(BUILDS[provider] ?? "ort.wasm.min.mjs", base).href)) as Ort;
      ort.env.wasm.wasmPaths = base.href;
      return ort;
    },
    compileKernel: () => compileKernel(),
    source: (place) => web(place, null),
    memory() {
      const figures = new Promise<Record<string, number>>((resolve) => (memoryTold = resolve));
      say({ measureMemory: true });
      return figures;
    },
    facts,
    threads: crossOriginIsolated,
  };
  say(await answer(request, host));
}

onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if ("memory" in data) {
    memoryTold(data.memory);
  } else {
    void work(data.request);
  }
};
