/**
 * Applies patches to copies of bundles, whole ones and damaged ones.
 *
 * usage: node patches.mjs EDGEREC FOLDER SEED COUNT      (FOLDER/NAME/{old.bundle,new.bundle,patch})
 *
 * A whole one makes the new bundle to the byte. A damaged one, half of them with their sha256 made anew, is refused by a named
 * error and changes nothing, or makes the new bundle all the same: what was damaged did not count.
 */

import { createHash } from "node:crypto";
import { cp, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { deflateSync, inflateSync } from "node:zlib";

const [library, folder, seed, count] = process.argv.slice(2);
const edgerec = await import(pathToFileURL(library));
const HEAD = 52;
const SIGNED_FROM = 44;

let state = Number(seed) >>> 0;
function below(end) {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * end);
}

async function content(place) {
  const files = (await readdir(place)).sort();
  const hash = createHash("sha256");
  for (const file of files.filter((name) => !name.startsWith("manifest.previous"))) {
    hash.update(file).update(await readFile(join(place, file)));
  }
  return hash.digest("hex");
}

/** The bundle that a copy of the old one became, and what was said. */
async function applied(name, patch) {
  const place = join(folder, name, "work");
  await rm(place, { recursive: true, force: true });
  await cp(join(folder, name, "old.bundle"), place, { recursive: true });
  let said;
  try {
    said = await edgerec.apply(place, patch);
  } catch (error) {
    said = error;
  }
  return [said, place];
}

async function holdsAll(place, name) {
  const wanted = join(folder, name, "new.bundle");
  for (const file of await readdir(wanted)) {
    if (!(await readFile(join(wanted, file))).equals(await readFile(join(place, file)).catch(() => Buffer.alloc(0)))) {
      return false;
    }
  }
  return true;
}

function damaged(patch) {
  const bytes = Buffer.from(patch);
  if (below(2)) {
    const at = below(bytes.length);
    if (below(3) === 0) {
      return bytes.subarray(0, at);
    }
    bytes[at] ^= 1 << below(8);
    return bytes;
  }
  // What lies behind the checksum: its stream, deflated again.
  const stream = inflateSync(bytes.subarray(HEAD));
  for (let n = 0; n <= below(3); n++) {
    stream[below(below(2) ? stream.length : Math.min(stream.length, stream.indexOf(10)))] = below(256);
  }
  const made = below(5) === 0 ? stream.subarray(0, below(stream.length)) : stream;
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(made.length));
  const signed = Buffer.concat([length, deflateSync(made)]);
  return Buffer.concat([bytes.subarray(0, 12), createHash("sha256").update(signed).digest(), signed]);
}

const wrong = [];
const names = (await readdir(folder)).sort();
for (const name of names) {
  const patch = await readFile(join(folder, name, "patch"));
  const [said, place] = await applied(name, new Uint8Array(patch));
  if (said !== true || !(await holdsAll(place, name))) {
    wrong.push(`${name}: ${said?.stack ?? said}`);
  } else if ((await edgerec.apply(place, new Uint8Array(patch))) !== false) {
    wrong.push(`${name}: applied twice`);
  }
}
let refused = 0;
for (let n = 0; n < Number(count); n++) {
  const name = names[below(names.length)];
  const before = await content(join(folder, name, "old.bundle"));
  const [said, place] = await applied(name, new Uint8Array(damaged(await readFile(join(folder, name, "patch")))));
  if (said === true) {
    if (!(await holdsAll(place, name))) {
      wrong.push(`${name} ${n}: made another bundle`);
    }
  } else if (!(said instanceof edgerec.PatchError) || (await content(place)) !== before) {
    wrong.push(`${name} ${n}: ${said?.stack ?? said}`);
  } else {
    refused += 1;
  }
}
console.log(JSON.stringify({ refused, wrong }));
