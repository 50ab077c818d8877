/**
 * Checks the JavaScript runtime against the test vectors, in Node and in pages. As check.py, which is the one to read.
 *
 * usage: node check.mjs EDGEREC RUNTIME [NAME ...]     (modules: edgerec-node.mjs, and onnxruntime's; or
 *        edgerec-kernel-node.mjs, and - for no onnxruntime)
 *
 * A page imports `failures` and gives it its own sources.
 */

const ANSWERS = {
  recommend: (model, { user, history, vector, rarity, ...request }) =>
    model.recommend({ user, history, vector, rarity, ...limits(request) }),
  popular: (model, request) => model.popular(limits(request)),
  score: (model, { user, history, vector, items, on_unknown: onUnknown }) =>
    model.score({ user, history, vector, items, onUnknown }),
  similar: (model, { item, ...request }) => model.similar(item, limits(request)),
  encode: (model, { history, on_unknown: onUnknown }) => model.encode(history, { onUnknown }),
  title: (model, { item }) => model.title(item),
};

const limits = ({ k, exclude, allow, on_unknown: onUnknown }) => ({ k, exclude, allow, onUnknown });

/**
 * What is wrong with the answers to the requests of one vector: a line for each.
 *
 * @param edgerec the module.
 * @param place {options, source(folder), text(path)}: how bundles are loaded (onnxruntime, or the kernel), where they are,
 *   and how texts are read.
 */
export async function failures(edgerec, name, place) {
  const { bundle, requests } = JSON.parse(await place.text(`requests/${name}.json`));
  const model = await edgerec.load(place.source(bundle), place.options);
  const found = [];
  for (const request of requests) {
    const said = await failure(request, model, edgerec, { ...place, bundle });
    if (said) {
      found.push(`${name}: ${JSON.stringify(request).slice(0, 200)}: ${said}`);
    }
  }
  await model.close();
  return found;
}

async function failure(request, model, edgerec, place) {
  const { BundleError, RequestError, SignatureError } = edgerec;
  const expected = { request: RequestError, bundle: BundleError, signature: SignatureError }[request.error];
  let answer;
  try {
    answer = request.call === "load" ? await loaded(request, edgerec, place) : await ANSWERS[request.call](model, request);
  } catch (error) {
    return expected && error instanceof expected ? null : `${error.name}: ${error.stack}`;
  }
  if (expected) {
    return `answered ${JSON.stringify(answer)} where the error '${request.error}' is expected`;
  }
  switch (request.call) {
    case "load":
      return null;
    case "title":
      return answer === request.title ? null : `${answer}, expected ${request.title}`;
    case "score":
      return valuesFailure(answer, request.scores, request);
    case "encode":
      return valuesFailure(answer, request.vector, request);
    default:
      return rankingFailure(answer, request);
  }
}

/** Open a bundle, or one in which a byte was changed. */
async function loaded({ trusted, flip }, edgerec, place) {
  const original = place.source(place.bundle);
  const source = {
    async read(file, ...rest) {
      const content = Uint8Array.from(await original.read(file, ...rest)); // a source may give the same bytes again
      if (flip && file.startsWith(flip.file)) {
        content[(flip.byte + content.length) % content.length] ^= 1;
      }
      return content;
    },
    close: async () => original.close?.(),
  };
  const keys = trusted && (await Promise.all(trusted.map(place.text)));
  const model = await edgerec.load(source, { ...place.options, ...(keys && { trusted: keys }) });
  await model.close();
}

function rankingFailure(answer, { k, ranking, tolerance }) {
  const wanted = Math.min(k, ranking.flat().length);
  if (answer.length !== wanted) {
    return `${answer.length} items where ${wanted} are expected`;
  }
  let at = 0;
  for (const group of ranking) {
    const expected = new Map(group);
    for (const { item, score } of answer.slice(at, at + group.length)) {
      if (!expected.has(item)) {
        return `${item} is not among ${JSON.stringify(group)}, or repeated`;
      }
      if (!(Math.abs(score - expected.get(item)) <= tolerance)) {
        return `${item} scores ${score}, expected ${expected.get(item)} within ${tolerance}`;
      }
      expected.delete(item);
    }
    at += group.length;
  }
  return null;
}

function valuesFailure(answer, expected, { tolerance }) {
  const close = answer.length === expected.length && expected.every((right, n) => Math.abs(answer[n] - right) <= tolerance);
  return close ? null : `${answer}, expected ${expected} within ${tolerance}`;
}

async function main([library, onnxruntime, ...names]) {
  const { readdir, readFile } = await import("node:fs/promises");
  const { pathToFileURL } = await import("node:url");
  const folder = new URL(".", import.meta.url);
  const edgerec = await import(pathToFileURL(library));
  const imported = onnxruntime === "-" ? {} : await import(pathToFileURL(onnxruntime));
  const runtime = imported.InferenceSession ? imported : imported.default;
  const place = {
    options: runtime ? { runtime } : {},
    source: (bundle) => edgerec.folder(new URL(bundle, folder).pathname),
    text: (path) => readFile(new URL(path, folder), "utf8"),
  };
  const all = (await readdir(new URL("requests", folder))).map((file) => file.replace(".json", "")).sort();
  const asked = names.length > 0 ? names : all;
  let wrong = 0;
  for (const name of asked) {
    const found = await failures(edgerec, name, place);
    wrong += found.length;
    found.forEach((line) => console.log(line));
  }
  console.log(`${asked.length} vectors, ${wrong} failures`);
  process.exit(wrong > 0 ? 1 : 0);
}

if (globalThis.process?.argv[1] && import.meta.url.endsWith(globalThis.process.argv[1].split("/").at(-1))) {
  await main(process.argv.slice(2));
}
