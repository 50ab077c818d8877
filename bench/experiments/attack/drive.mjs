/**
 * Answers mutants with the JavaScript runtime, a line for each; the protocol is in runtimes.py.
 *
 * usage: node drive.mjs EDGEREC RUNTIME     (modules: edgerec-node.mjs, and onnxruntime's)
 */

import { readFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [library, onnxruntime] = process.argv.slice(2);
const edgerec = await import(pathToFileURL(library));
const imported = await import(pathToFileURL(onnxruntime));
const runtime = imported.InferenceSession ? imported : imported.default;

const raw = (text) => {
  if (text[0] === "s") {
    return Buffer.from(text.slice(1), "hex").toString("utf8");
  }
  const whole = BigInt(text.slice(1));
  return Number.isSafeInteger(Number(whole)) ? Number(whole) : whole;
};

async function answer(bundle, patch, key, kind, ids) {
  const trusted = key === "-" ? {} : { trusted: [await readFile(key, "utf8")] };
  if (patch !== "-") {
    await edgerec.apply(bundle, new Uint8Array(await readFile(patch)), { runtime, ...trusted });
  }
  const model = await edgerec.load(bundle, { runtime, ...trusted });
  try {
    const [first, ...items] = ids.split(",").map(raw);
    const who = kind === "user" ? { user: first } : { history: [first, ...items] };
    const said = [await model.recommend({ ...who, k: 3, exclude: items.slice(0, 1) })];
    said.push(await model.score({ ...who, items }), model.title(items[0]));
    if (patch === "-") {
      said.push(await model.similar(items[0], 2).catch(no), await model.encode(items).catch(no));
    }
    return JSON.stringify(said, (_, value) => (typeof value === "bigint" ? `${value}` : value));
  } finally {
    await model.close();
  }
}

/** A graph that the bundle has not is no fault. */
function no(error) {
  if (error instanceof edgerec.RequestError) {
    return null;
  }
  throw error;
}

console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [number, ...request] = line.split("\t");
  let said;
  try {
    said = ["answer", "", await answer(...request)];
  } catch (error) {
    const named = error instanceof edgerec.EdgeRecError;
    said = [named ? "refused" : "unnamed", error?.name ?? typeof error, named ? error.message : `${error?.stack ?? error}`];
  }
  console.log([number, ...said.map((text) => JSON.stringify(text))].join("\t"));
}
