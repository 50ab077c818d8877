/**
 * Damages bundles at random and asks them: each is refused by a named error, or answers as the whole one does.
 *
 * usage: node mutate.mjs EDGEREC RUNTIME VECTORS SEED COUNT      (RUNTIME is - for the kernel)
 *
 * Half of them get their sizes, sha256 and manifest made anew, so that what lies behind these checks is tried too; such
 * a bundle is another one, and may answer otherwise.
 */

import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [library, onnxruntime, vectors, seed, count] = process.argv.slice(2);
const edgerec = await import(pathToFileURL(library));
const runtime = onnxruntime === "-" ? null : await import(pathToFileURL(onnxruntime));
const HOSTILE = [-1, 0, 1, 2 ** 31, 2 ** 53, 1e300, null, "", "..", "../tables.bin", "/etc/passwd", "a\\b", [], {}, [0], "float32", true];

let state = Number(seed) >>> 0;
function below(end) {
  state = (state + 0x6d2b79f5) >>> 0;
  let mixed = Math.imul(state ^ (state >>> 15), state | 1);
  mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
  return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * end);
}
const pick = (list) => list[below(list.length)];

const sha256 = (content) => createHash("sha256").update(content).digest("hex");
const text = (value) => new TextEncoder().encode(JSON.stringify(value));

/** One value of the manifest, anywhere in it, becomes a hostile one, or is left out. */
function edit(manifest) {
  let place = manifest;
  for (;;) {
    const key = pick(Object.keys(place));
    const inside = place[key];
    if (inside && typeof inside === "object" && Object.keys(inside).length > 0 && below(4) > 0) {
      place = inside;
    } else if (below(5) === 0) {
      return void delete place[key];
    } else {
      return void (place[key] = pick(HOSTILE));
    }
  }
}

/** Change a file's bytes: a bit, an end cut off, zeros, or bytes of another file. */
function damage(files, name) {
  const content = Uint8Array.from(files.get(name));
  const at = below(content.length);
  switch (below(4)) {
    case 0:
      content[at] ^= 1 << below(8);
      return content;
    case 1:
      return content.slice(0, at);
    case 2:
      return content.fill(0, at, at + 1 + below(64));
    default: {
      const other = files.get(pick([...files.keys()]));
      content.set(other.subarray(0, Math.min(other.length, content.length - at)), at);
      return content;
    }
  }
}

async function ask(source) {
  const model = await edgerec.load(source, runtime ? { runtime } : {});
  try {
    const { users, graphs } = model.metadata;
    const [first, second] = known.items ?? model.items();
    const who = users ? { user: known.user } : { history: [first, second] };
    const answers = [await model.recommend({ ...who, k: 5, exclude: [second] }), [...(await model.score({ ...who, items: [first, second] }))]];
    return JSON.stringify([answers, graphs.includes("similar") ? await model.similar(first, 3) : null], (_, value) => (typeof value === "bigint" ? `${value}` : value));
  } finally {
    await model.close();
  }
}

const known = {};
const names = [];
for (const name of (await readdir(join(vectors, "bundles"))).sort()) {
  const { version, precision } = JSON.parse(await readFile(join(vectors, "bundles", name, "manifest.json"), "utf8"));
  if (runtime || version > "2" || !precision.includes("int")) {
    names.push(name); // the kernel refuses the others
  }
}
let refused = 0;
const wrong = [];
for (let n = 0; n < Number(count); n++) {
  const name = pick(names);
  const folder = join(vectors, "bundles", name);
  const files = new Map();
  for (const file of await readdir(folder)) {
    files.set(file, new Uint8Array(await readFile(join(folder, file))));
  }
  const { requests } = JSON.parse(await readFile(join(vectors, "requests", `${name}.json`), "utf8"));
  known.user = requests.find((request) => request.user !== undefined && !request.error)?.user;
  const source = { read: async (file) => Uint8Array.from(files.get(file) ?? fail(file)) };
  const fail = (file) => {
    throw new edgerec.BundleError(`there is no ${file}`);
  };
  const manifest = JSON.parse(new TextDecoder().decode(files.get("manifest.json")));
  // Hashes, of which `items` consists, are no ids of requests.
  known.items = manifest.items.ids === "hash64" ? requests.find(({ items }) => items?.length > 1).items : null;
  const right = await ask(source);
  const again = below(2) === 1;
  const read = [manifest.tables, ...Object.values(manifest.graphs)];
  if (below(2) === 0) {
    edit(manifest);
    files.set("manifest.json", text(manifest));
  } else {
    const entry = pick(read);
    const content = damage(files, entry.file);
    files.set(entry.file, content);
    if (again) {
      Object.assign(entry, { bytes: content.length, sha256: sha256(content) });
      files.set("manifest.json", text(manifest));
    }
  }
  try {
    const answer = await ask(source);
    const altered = read.some(({ file, sha256: promised }) => files.has(file) && sha256(files.get(file)) !== promised);
    if (altered && answer !== right) {
      wrong.push(`${name} ${n}: answers ${answer} where ${right} is right`);
    }
  } catch (error) {
    refused += 1;
    if (!(error instanceof edgerec.EdgeRecError)) {
      wrong.push(`${name} ${n}: ${error.stack}`);
    }
  }
}
console.log(JSON.stringify({ refused, wrong }));
process.exit(0);
