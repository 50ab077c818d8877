/** The measuring agent of a page's worker and of Node; protocol.schema.json specifies requests and answers. */

import type { Source } from "../src/source.ts";
import { clockStep, Stopwatch, timeCalls, timed, type Limits, type Times } from "./clock.ts";
import { Graphs, matrix, type Calls, type Feed } from "./graphs.ts";
import { watchHeap } from "./heap.ts";
import { KernelRows } from "./kernel-rows.ts";
import { Questions, type QuestionSizes } from "./questions.ts";
import { sustained, type Window } from "./sustained.ts";

/** The required parts of onnxruntime-web; the host chooses the build. */
export type Ort = Pick<typeof import("onnxruntime-web"), "InferenceSession" | "Tensor" | "env">;

/** The differences between a browser and Node. */
export interface Host {
  /** Load onnxruntime-web, with its WebAssembly files from the same folder. */
  loadOrt(): Promise<Ort>;
  /** Compile the kernel. */
  compileKernel(): Promise<WebAssembly.Module>;
  /** Return the source of a bundle at the place that it was pushed to. */
  source(place: string): Source;
  /** Return KiB by name of all memory figures that can be read, except WebAssembly's heap. */
  memory(): Promise<Record<string, number>>;
  facts(): Promise<Facts>;
  /** True if threads are available. */
  threads: boolean;
}

export type Facts = Record<string, string | number | boolean>;

interface Common {
  threads?: number;
  /** onnxruntime's execution provider, "wasm" by default; or "kernel". */
  provider?: string;
  /** Maximum bytes of WebAssembly's heap. */
  heap?: number | null;
}

interface BundleRequest extends Common, Limits, QuestionSizes {
  task: "bundle";
  bundle: string;
  candidates?: number[];
  scenarios?: string[];
  sustained_seconds?: number;
  /** Rows of users. */
  ask?: number[];
}

/** Single questions to graphs, in bundle rows. */
interface AnswersRequest extends Common {
  task: "answers";
  questions: { bundle: string; graph: string; feed: Feed }[];
}

export type Request = BundleRequest | AnswersRequest | (Common & { task: "bare" | "facts" });

/** The result of a task, in which JSON represents an infinite score as null; or a one-line error. */
export type Answer = { ok: unknown } | { error: string; does_not_fit?: true };

export async function answer(request: Request, host: Host): Promise<Answer> {
  const heap = watchHeap(request.heap ?? null);
  try {
    return { ok: await new Agent(host, request, heap).answer(request) };
  } catch (error) {
    return reason(error, heap(), request.provider === "webgpu");
  }
}

const NO_ROOM = /bad_alloc|out of memory|allocation fail|allocate memory|failed to allocate|OOM/i;

function reason(error: unknown, heap: number, webgpu: boolean): Answer {
  const [line] = (error instanceof Error ? error.message : String(error)).split("\n") as [string];
  // WebAssembly throws numbers: addresses inside its heap.
  if (NO_ROOM.test(line) || /^\d+$/.test(line)) {
    const reached = Math.round(heap / 2 ** 20);
    return { error: `WebAssembly's heap of ${reached} MiB could not grow as the bundle needs (${line})`, does_not_fit: true };
  }
  const [, said] = /ERROR_MESSAGE: (.*)/.exec(line) ?? [];
  if (webgpu && said !== undefined) {
    const short = said.replace(/\/\S*\//g, ""); // without onnxruntime's source folders
    return { error: `onnxruntime-web cannot do this with WebGPU here (${short}); measure with --device browser` };
  }
  return { error: line };
}

/** An ONNX file with y = Relu(x), x float32 [1], in base64. */
const ONE_NODE = "CAg6NgoMCgF4EgF5IgRSZWx1EgRiYXJlWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUICEA4=";
/** Scenarios that come in requests of their own. */
const ISOLATED = ["load", "sustained", "offline"];
const PROVIDERS: Record<string, string[]> = { wasm: ["wasm"], webgpu: ["webgpu", "wasm"], kernel: [] };

class Agent {
  readonly #host: Host;
  readonly #heap: () => number;
  readonly #threads: number;
  readonly #providers: string[];

  constructor(host: Host, request: Common, heap: () => number) {
    this.#host = host;
    this.#heap = heap;
    this.#threads = request.threads ?? 1;
    const providers = PROVIDERS[request.provider ?? "wasm"];
    if (providers === undefined) {
      throw new Error(`the agent knows no provider '${request.provider}'; it knows: ${Object.keys(PROVIDERS).join(", ")}`);
    }
    this.#providers = providers;
    if (this.#threads > 1 && !host.threads) {
      throw new Error("this page gets no threads: it is not cross-origin isolated; measure with --threads 1");
    }
  }

  async answer(request: Request): Promise<unknown> {
    switch (request.task) {
      case "facts":
        return { clock_ns: clockStep(), ...(await this.#host.facts()) };
      case "bare":
        await this.#start();
        return { memory: await this.#memory() };
      case "answers":
        return this.#answers(request);
      case "bundle":
        return this.#bundle(request);
      default:
        throw new Error(
          `the agent of browsers and Node knows no task '${(request as { task: unknown }).task}'; ` +
            "it knows: bundle, bare, answers, facts",
        );
    }
  }

  /** Make the runtime ready, and return the function that opens bundles in it. */
  async #start(): Promise<(source: Source) => Promise<Calls>> {
    if (this.#providers.length === 0) {
      const kernel = await this.#host.compileKernel();
      return (source) => KernelRows.open(source, async () => kernel);
    }
    const ort = await this.#startOrt();
    return (source) => Graphs.open(ort, source, this.#providers);
  }

  /** Load onnxruntime-web and run a bare session, which compiles its WebAssembly and allocates its memory. */
  async #startOrt(): Promise<Ort> {
    const ort = await this.#host.loadOrt();
    ort.env.wasm.numThreads = this.#threads;
    ort.env.logLevel = "error";
    const model = Uint8Array.from(atob(ONE_NODE), (letter) => letter.charCodeAt(0));
    const session = await ort.InferenceSession.create(model, {
      executionProviders: this.#providers,
      logSeverityLevel: 3,
    });
    await session.run({ x: new ort.Tensor("float32", new Float32Array(1), [1]) });
    await session.release();
    return ort;
  }

  async #memory(): Promise<Record<string, number>> {
    return { wasm_heap: this.#heap() / 1024, ...(await this.#host.memory()) };
  }

  async #bundle(request: BundleRequest): Promise<unknown> {
    const wanted = new Set(request.scenarios ?? ["recommend", "score"]);
    const isolated = ISOLATED.filter((name) => wanted.has(name));
    if (isolated.length > 0 && isolated.length === wanted.size) {
      return this.#isolated(request, wanted);
    }
    const [open, runtime_ms] = await timed(() => this.#start());
    const [bundle, load_ms] = await timed(() => this.#load(open, request));
    const questions = new Questions(bundle.sizes, request);
    const scenarios: Record<string, Times> = {};
    let memory: Record<string, number> | undefined;
    for (const { name, graph, prepare } of chosen(bundle, wanted, questions, request.candidates ?? [])) {
      await bundle.prepare(graph); // so that the first call does not open the graph
      const watch = new Stopwatch(prepare, (feed) => bundle.run(graph, feed));
      scenarios[name] = await timeCalls(watch, request);
      memory ??= await this.#memory();
    }
    memory ??= await this.#memory();
    const [verified, taken_ms] = globalThis.crypto?.subtle ? await timed(() => bundle.verify()) : [null, 0];
    const verify_ms = verified === null ? null : taken_ms;
    const rows: number[][] = [];
    for (const user of request.ask ?? []) {
      const { items } = await bundle.run("recommend", { user: [user], exclude: [[]], k: request.k });
      rows.push(...matrix(items!));
    }
    return { runtime_ms, load_ms, verify_ms, memory, scenarios, rows };
  }

  /** Run the scenarios that come in requests of their own. A page has no throughput scenario. */
  async #isolated(request: BundleRequest, wanted: Set<string>): Promise<unknown> {
    const answer: { warm_because?: string; sustained?: Window[] } = {};
    if (wanted.has("load")) {
      answer.warm_because = "this agent cannot evict files from the page cache";
    }
    if (wanted.has("sustained")) {
      const bundle = await this.#load(await this.#start(), request);
      const questions = new Questions(bundle.sizes, request);
      const watch = new Stopwatch(
        () => questions.recommend(),
        (feed) => bundle.run("recommend", feed),
      );
      answer.sustained = await sustained(watch, request.sustained_seconds ?? 0);
    }
    return answer;
  }

  async #load(open: (source: Source) => Promise<Calls>, request: BundleRequest): Promise<Calls> {
    const bundle = await open(this.#host.source(request.bundle));
    await bundle.prepare("recommend");
    return bundle;
  }

  async #answers(request: AnswersRequest): Promise<unknown> {
    const open = await this.#start();
    const opened = new Map<string, Calls>();
    const answers: Record<string, number[][]>[] = [];
    for (const { bundle: place, graph, feed } of request.questions) {
      const bundle = opened.get(place) ?? (await open(this.#host.source(place)));
      opened.set(place, bundle);
      const outputs = await bundle.run(graph, feed);
      answers.push(Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, matrix(tensor)])));
    }
    return { answers };
  }
}

interface Scenario {
  name: string;
  graph: string;
  prepare: () => Feed;
}

/** Return the requested scenarios for which the bundle has a graph, 'recommend' first. */
function chosen(bundle: Calls, wanted: Set<string>, questions: Questions, candidates: number[]): Scenario[] {
  const score = (name: string, count: number) => ({ name, graph: "score", prepare: () => questions.score(count) });
  const all: Record<string, Scenario[]> = {
    recommend: [{ name: "recommend", graph: "recommend", prepare: () => questions.recommend() }],
    score: candidates.map((count) => score(`score ${count}`, count)),
    lookup: [score("lookup", 1)],
    history: [{ name: "history", graph: "encode", prepare: () => questions.history() }],
  };
  return Object.entries(all)
    .filter(([name]) => wanted.has(name))
    .flatMap(([, scenarios]) => scenarios)
    .filter(({ graph }) => bundle.has(graph));
}
