/** The worker of the page: checks the vectors that it is told, one after the other. */

import { failures } from "/check.mjs";
import * as edgerec from "/edgerec.mjs";
import * as runtime from "/ort/ort.wasm.min.mjs";

runtime.env.wasm.wasmPaths = new URL("/ort/", location.href).href;
runtime.env.wasm.numThreads = 1;

const place = {
  runtime,
  source: (bundle) => edgerec.web(`/vectors/${bundle}`, null),
  text: async (path) => (await fetch(`/vectors/${path}`)).text(),
};

onmessage = async ({ data: names }) => {
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
