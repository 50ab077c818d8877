/** A bundle whose graphs onnxruntime runs: opened on first use, they share the tables. */

import type { InferenceSession, Tensor } from "onnxruntime-common";

import { reader_options } from "../../../edgerec/runtime/bundle-spec.json";
import { closed, openFiles, type Files, type OpenOptions } from "./bundle.ts";
import { BundleError, firstLine, MissingError, RequestError } from "./errors.ts";
import { graphFault } from "./onnx.ts";
import type { Source } from "./source.ts";

/** The required parts of onnxruntime-web or onnxruntime-node. */
export type Runtime = Pick<typeof import("onnxruntime-common"), "InferenceSession" | "Tensor" | "env">;

export interface LoadOptions extends OpenOptions {
  /** The imported onnxruntime-web or onnxruntime-node; by default it is imported when the first graph is opened. */
  runtime?: Runtime;
  /** onnxruntime's execution providers, best first; by default onnxruntime chooses. */
  providers?: string[];
}

/** Inputs of a graph by name: values (whole numbers, or a Float32Array) and their shape. */
export type Feed = Record<string, [values: number[] | Float32Array, shape: number[]]>;
/** Outputs of a graph by name. */
export type Tensors = Record<string, Tensor>;

export interface OnnxBundle extends Files {
  /** Return the session of a graph, opened on first use. @throws RequestError if there is no such graph, BundleError. */
  opened(name: string): Promise<InferenceSession>;
  /** Run a graph. @throws BundleError if it fails because its parts do not fit together. */
  run(name: string, feed: Feed): Promise<Tensors>;
  /** Release all sessions; later calls are errors. */
  close(): Promise<void>;
}

/**
 * Read the bundle of a source and check it.
 *
 * @param importing imports onnxruntime on this platform, if the options do not contain it.
 * @throws as `openFiles`; BundleError for a graph that does what no bundle does.
 */
export async function openBundle(
  source: Source,
  options: LoadOptions,
  importing: () => Promise<Runtime>,
): Promise<OnnxBundle> {
  const { providers } = options;
  const files = await openFiles(source, options, (graph, content, { tables, items }) => {
    const fault = graphFault(content, tables.file, graph.tensors, items.rows);
    if (fault) {
      throw new BundleError(`${graph.file} is refused: ${fault}; export it again`);
    }
  });
  const { manifest, content } = files;
  const { tables, graphs } = manifest;
  const sessions = new Map<string, Promise<InferenceSession>>();
  /** The last call: onnxruntime's WebAssembly runs one at a time. */
  let busy: Promise<unknown> = Promise.resolve();
  let isClosed = false;

  const runtime = async () =>
    options.runtime ??
    importing().catch((error: unknown) => {
      throw new MissingError(
        `onnxruntime cannot be imported (${firstLine(error)}); install onnxruntime-web, or give it as runtime`,
      );
    });

  async function open(name: string): Promise<InferenceSession> {
    const graph = graphs.get(name);
    if (!graph) {
      throw new RequestError(`this bundle has no '${name}' graph: it was exported without`);
    }
    const { InferenceSession, env } = await runtime();
    const options: InferenceSession.SessionOptions = {
      enableMemPattern: false,
      // Constant folding is off: a hostile graph of a few kB could otherwise allocate gigabytes when it is opened.
      extra: { ...manifest.session, ...reader_options },
      logSeverityLevel: 3,
      executionProviders: providers!, // undefined lets onnxruntime choose
    };
    try {
      if (source.path && env.versions.node) {
        return await InferenceSession.create(source.path(graph.file), options);
      }
      options.externalData = [{ path: tables.file, data: content(tables) }];
      return await InferenceSession.create(content(graph), options);
    } catch (error) {
      throw new BundleError(`onnxruntime cannot open ${graph.file}: ${firstLine(error)}`);
    }
  }

  const bundle: OnnxBundle = {
    ...files,
    opened(name) {
      if (isClosed) {
        throw new RequestError(closed);
      }
      const opened = sessions.get(name) ?? open(name);
      sessions.set(name, opened);
      opened.catch(() => sessions.delete(name)); // another attempt may have more memory
      return opened;
    },
    run(name, feed) {
      const answer = busy.then(async () => {
        const session = await bundle.opened(name);
        const { Tensor } = await runtime();
        const tensors: Tensors = {};
        try {
          for (const [input, [values, shape]] of Object.entries(feed)) {
            const typed = values instanceof Float32Array ? values : BigInt64Array.from(values, BigInt);
            tensors[input] = new Tensor(typed as Float32Array, shape); // the array determines the tensor's type
          }
          return await session.run(tensors);
        } catch (error) {
          throw new BundleError(`the '${name}' graph failed: ${firstLine(error)}; export it again`);
        }
      });
      busy = answer.catch(() => undefined);
      return answer;
    },
    async close() {
      isClosed = true;
      await busy;
      for (const opened of sessions.values()) {
        await (await opened).release();
      }
      sessions.clear();
    },
  };

  return bundle;
}
