// The Web of Things Playground on Thing Descriptions and Thing Models from standard input, one in a line, with its
// assertions if the line says so; reports go out as lines of JSON.
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { tdValidator, tmValidator } = require("@thing-description-playground/core");
const { tdAssertions, tmAssertions } = require("@thing-description-playground/assertions");

const quiet = () => {};
const log = console.log;
console.log = quiet; // the packages write their progress there
// The schema is looked for in a folder of its own dependencies, where npm need not put it.
const load = async (path) =>
  readFileSync(path.includes("td-schema.json") || path.includes("tm-schema.json") ? schema(path) : path);
const schema = (path) => join(require.resolve("@thing-description-playground/core/package.json"), "..", path.split("/").pop());

async function check({ td, model, assert }) {
  const validate = model ? tmValidator : tdValidator;
  const assertions = model ? tmAssertions : tdAssertions;
  const text = JSON.stringify(td);
  // JSON-LD contexts are on the network.
  const { report, details } = await validate(text, quiet, { checkDefaults: true, checkJsonLd: false });
  log(JSON.stringify({ report, details, assertions: assert ? await assertions([text], load, quiet) : [] }));
}

(async () => {
  for (const line of readFileSync(0, "utf8").trim().split("\n")) await check(JSON.parse(line));
})();
