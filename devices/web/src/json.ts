/** JSON from untrusted bytes. */

import { limits } from "../../../edgerec/runtime/bundle-spec.json";
import { utf8, type Bytes } from "./utf8.ts";

/**
 * Parse a JSON object from untrusted bytes. Parsed values take far more memory than their text: values are counted
 * first, by their commas and brackets.
 *
 * @throws Error if it is no object, or has more values, levels or members than the specification allows.
 */
export function jsonObject(content: Bytes): Record<string, unknown> {
  let values = 0;
  for (const byte of content) {
    values += +(byte === 44 || byte === 91 || byte === 123);
  }
  let few = values <= limits.json_values;
  const fields = few && JSON.parse(utf8(content));
  let level = [fields];
  for (let n = 0; few && n < limits.json_levels; n++) {
    const members = level.map((value) => [Array.isArray(value), Object.values(value)] as const);
    few = members.every(([list, { length }]) => list || length <= limits.json_members);
    level = members.flatMap(([, values]) => values.filter((value) => Object(value) === value));
  }
  if (!few || level.length > 0 || Object(fields) !== fields) {
    throw new Error("no JSON object, or one of too many parts");
  }
  return fields;
}
