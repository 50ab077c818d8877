/** The worker of the page: checks the vectors that it is told, one after the other; `vectors.mjs?kernel` the kernel's. */

import { failures } from "/check.mjs";

async function onnxruntime() {
  const runtime = await import("/ort/ort.wasm.min.mjs");
  runtime.env.wasm.wasmPaths = new URL("/ort/", location.href).href;
  runtime.env.wasm.numThreads = 1;
  return { runtime };
}

onmessage = async ({ data: names }) => {
  const kernel = location.search === "?kernel";
  const edgerec = await import(kernel ? "/edgerec-kernel.mjs" : "/edgerec.mjs");
  const place = {
    options: kernel ? {} : await onnxruntime(),
    source: (bundle) => edgerec.web(`/vectors/${bundle}`, null),
    text: async (path) => (await fetch(`/vectors/${path}`)).text(),
  };
  const found = [];
  for (const name of names) {
    try {
      found.push(...(await failures(edgerec, name, place)));
    } catch (error) {
      found.push(`${name}: ${error.stack}`);
    }
  }
  postMessage(found);
};
