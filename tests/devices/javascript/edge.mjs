/**
 * An edge worker, as an app would write it, with a bundle that is part of the program: /recommend?history=1,2&k=3 answers
 * from it. /vectors?names=... checks test vectors, which a service of the worker holds.
 */

import { failures } from "./check.mjs";
import * as edgerec from "./edgerec-kernel.mjs";
import kernel from "./edgerec-kernel.wasm";
import films from "./films.edgerec";

/** Opened by the first request. */
let model;

async function recommend(asked) {
  model ??= edgerec.load(films, { kernel });
  const history = asked.get("history").split(",").filter(Boolean);
  try {
    return Response.json(await (await model).recommend({ history, k: Number(asked.get("k")) }));
  } catch (error) {
    return Response.json({ error: error.message }, { status: error instanceof edgerec.RequestError ? 400 : 500 });
  }
}

async function check(names, vectors) {
  const fetched = async (path) => {
    const response = await vectors.fetch(`http://vectors/${path}`);
    if (!response.ok) {
      throw new edgerec.BundleError(`${path}: status ${response.status}`);
    }
    return response;
  };
  const place = {
    options: { kernel },
    source: (bundle) => ({
      read: async (file) => new Uint8Array(await (await fetched(`${bundle}/${file}`)).arrayBuffer()),
    }),
    text: async (path) => (await fetched(path)).text(),
  };
  const found = [];
  for (const name of names) {
    found.push(...(await failures(edgerec, name, place).catch((error) => [`${name}: ${error.stack}`])));
  }
  return Response.json(found);
}

export default {
  async fetch(request, { vectors }) {
    const { pathname, searchParams } = new URL(request.url);
    return pathname === "/vectors" ? check(searchParams.get("names").split(","), vectors) : recommend(searchParams);
  },
};
