/** What is measured, in a page's worker and in Node alike; requests and answers are those of protocol.schema.json. */

import type { Source } from "../src/source.ts";
import { clockStep, Stopwatch, timeCalls, timed, type Limits, type Times } from "./clock.ts";
import { Graphs, matrix, type Feed } from "./graphs.ts";
import { watchHeap } from "./heap.ts";
import { Questions, type Asked } from "./questions.ts";
import { sustained, type Window } from "./sustained.ts";

/** The parts of onnxruntime-web that are used; which build it is, is the host's choice. */
export type Ort = Pick<typeof import("onnxruntime-web"), "InferenceSession" | "Tensor" | "env">;

/** What differs between a browser and Node. */
export interface Host {
  /** Load onnxruntime-web, with the files of its WebAssembly from beside it. */
  loadOrt(): Promise<Ort>;
  /** A bundle, by the place that it was pushed to. */
  source(place: string): Source;
  /** KiB by name, of all that can be read beside the heap of WebAssembly. */
  memory(): Promise<Record<string, number>>;
  facts(): Promise<Facts>;
  /** Whether threads can be had. */
  threads: boolean;
}

export type Facts = Record<string, string | number | boolean>;

interface Common {
  threads?: number;
  /** onnxruntime's execution provider: "wasm" if none is named. */
  provider?: string;
  /** Bytes that the heap of WebAssembly may grow to. */
  heap?: number | null;
}

interface BundleRequest extends Common, Limits, Asked {
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

/** What a task found, JSON in which an infinite score is null; or the one line that says what went wrong. */
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
  // What WebAssembly throws of its own is a number: an address inside its heap.
  if (NO_ROOM.test(line) || /^\d+$/.test(line)) {
    const reached = Math.round(heap / 2 ** 20);
    return { error: `WebAssembly's heap of ${reached} MiB could not grow as the bundle needs (${line})`, does_not_fit: true };
  }
  const [, said] = /ERROR_MESSAGE: (.*)/.exec(line) ?? [];
  if (webgpu && said !== undefined) {
    const short = said.replace(/\/\S*\//g, ""); // without the folders that onnxruntime was built in
    return { error: `onnxruntime-web cannot do this with WebGPU here (${short}); measure with --device browser` };
  }
  return { error: line };
}

/** The ONNX file of y = Relu(x), x float32 [1]. */
const ONE_NODE = "CAg6NgoMCgF4EgF5IgRSZWx1EgRiYXJlWg8KAXgSCgoICAESBAoCCAFiDwoBeRIKCggIARIECgIIAUICEA4=";
/** Scenarios that come in requests of their own. */
const ISOLATED = ["load", "sustained", "offline"];
const PROVIDERS: Record<string, string[]> = { wasm: ["wasm"], webgpu: ["webgpu", "wasm"] };

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

  /** onnxruntime-web, its WebAssembly compiled and its memory made: what a bare session takes. */
  async #start(): Promise<Ort> {
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
    const [ort, runtime_ms] = await timed(() => this.#start());
    const [bundle, load_ms] = await timed(() => this.#load(ort, request));
    const questions = new Questions(bundle.manifest, request);
    const scenarios: Record<string, Times> = {};
    let memory: Record<string, number> | undefined;
    for (const { name, graph, prepare } of chosen(bundle, wanted, questions, request.candidates ?? [])) {
      await bundle.prepare(graph); // opening it is no part of the first call
      const watch = new Stopwatch(prepare, (feed) => bundle.ask(graph, feed));
      scenarios[name] = await timeCalls(watch, request);
      memory ??= await this.#memory();
    }
    memory ??= await this.#memory();
    const verify_ms = globalThis.crypto?.subtle === undefined ? null : (await timed(() => bundle.verify()))[1];
    const rows: number[][] = [];
    for (const user of request.ask ?? []) {
      const { items } = await bundle.ask("recommend", { user: [user], exclude: [[]], k: request.k });
      rows.push(...matrix(items!));
    }
    return { runtime_ms, load_ms, verify_ms, memory, scenarios, rows };
  }

  /** Run the scenarios that come in requests of their own. A page has no throughput scenario. */
  async #isolated(request: BundleRequest, wanted: Set<string>): Promise<unknown> {
    const answer: { warm_because?: string; sustained?: Window[] } = {};
    if (wanted.has("load")) {
      answer.warm_because = "this agent cannot put files out of the page cache";
    }
    if (wanted.has("sustained")) {
      const bundle = await this.#load(await this.#start(), request);
      const questions = new Questions(bundle.manifest, request);
      const watch = new Stopwatch(
        () => questions.recommend(),
        (feed) => bundle.ask("recommend", feed),
      );
      answer.sustained = await sustained(watch, request.sustained_seconds ?? 0);
    }
    return answer;
  }

  async #load(ort: Ort, request: BundleRequest): Promise<Graphs> {
    const bundle = await Graphs.open(ort, this.#host.source(request.bundle), this.#providers);
    await bundle.prepare("recommend");
    return bundle;
  }

  async #answers(request: AnswersRequest): Promise<unknown> {
    const ort = await this.#start();
    const opened = new Map<string, Graphs>();
    const answers: Record<string, number[][]>[] = [];
    for (const { bundle: place, graph, feed } of request.questions) {
      const bundle = opened.get(place) ?? (await Graphs.open(ort, this.#host.source(place), this.#providers));
      opened.set(place, bundle);
      const outputs = await bundle.ask(graph, feed);
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

/** The scenarios that are wanted and that the bundle has graphs for, 'recommend' first. */
function chosen(bundle: Graphs, wanted: Set<string>, questions: Questions, candidates: number[]): Scenario[] {
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
