/**
 * The security check of an ONNX file: its operators, loops, divisions, and tensors in other files. It reads protobuf's
 * wire format, but only the fields that are named here; it skips all others.
 */

import { limits, operators, typed_as_all, typed_as_first } from "../../../edgerec/runtime/bundle-spec.json";
import type { Section } from "./manifest.ts";
import { utf8, type Bytes } from "./source.ts";

const DAMAGED = "it is damaged, or no bundle's";
/** ONNX's number of the tensor type int64. */
const INT64 = 7;

type Value = number | Uint8Array;
/** The fields of a message that contain messages; null for messages that no bundle has. */
interface Kind {
  [field: number]: Kind | null;
}

const TENSOR: Kind = {};
const NODE: Kind = {};
const GRAPH: Kind = { 1: NODE, 5: TENSOR, 15: null };
/** An attribute. Fields 22, 23, and 15 of a graph, are sparse tensors; 20 and 25 of a model are training and functions. */
NODE[5] = { 5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: null, 23: null };
const MODEL: Kind = { 7: GRAPH, 20: null, 25: null };

/**
 * Check a graph.
 *
 * @param tables the file that must contain the external tensors.
 * @param tensors the external tensors that the manifest names.
 * @param rows number of items, and maximum number of iterations of a loop.
 * @returns why the graph is refused; undefined if it is accepted.
 */
export function graphFault(content: Uint8Array, tables: string, tensors: Map<string, Section>, rows: number): string | undefined {
  /** Whole number constants of the graph, by name: onnxruntime refuses nodes whose output has the name of one. */
  const constants: Record<string, number> = {};
  let messages = 0;

  function check(kind: Kind | null, message: Value, depth: number, scanning?: boolean): string | undefined {
    const found = kind && depth < limits.graph_levels && messages++ < limits.graph_messages && fields(message);
    if (!found) {
      return DAMAGED;
    }
    const last: Value[] = [];
    const dims: number[] = [];
    const place: Record<string, string> = {};
    let input: Value | undefined;
    for (const [field, value] of found) {
      if (last[field] && kind[field] && field > 5 && field < 8) {
        return DAMAGED; // onnxruntime would merge two graphs
      }
      last[field] = value;
      if (field === 1) {
        input ??= value;
        dims.push(value as number); // the exporter writes them unpacked
      } else if (kind === TENSOR && field === 13) {
        const pair = new Map(fields(value));
        place[text(pair.get(1))] = text(pair.get(2));
      }
    }
    const operator = kind === NODE ? text(last[4]) : "";
    if (kind === NODE) {
      if (!operators.includes(operator) || last[7]?.toString()) {
        return `it calls ${text(last[7])} ${operator}`;
      }
      // A Loop must be in the main graph and may contain a Scan; a Scan contains no other loop.
      if (operator === "Loop" ? !(depth < 3 && constants[text(input)]! <= rows) : operator === "Scan" && scanning) {
        return "it has a loop without end";
      }
    }
    if (kind === TENSOR) {
      const name = text(last[8]);
      if (last[13] || last[14]) {
        const [offset, , shape, bytes] = tensors.get(name) ?? [];
        if (`${[place["location"], place["offset"], place["length"], dims]}` !== `${[tables, offset, bytes, shape]}`) {
          return `its table '${name}' lies elsewhere than the manifest says`;
        }
      } else if (depth < 3 && last[2] === INT64 && !dims[0]) {
        const value = new DataView((last[9] as Bytes).slice().buffer).getBigUint64(0, true);
        constants[name] = Math.max(constants[name] ?? 0, Number(value));
      }
    }
    // A graph's tensors come first: they contain the ends of loops.
    for (const [field, value] of kind === GRAPH ? found.sort(([one], [other]) => other - one) : found) {
      const fault = kind[field] !== undefined && check(kind[field], value, depth + 1, scanning || operator === "Scan");
      if (fault) {
        return fault;
      }
    }
    return undefined;
  }

  try {
    return check(MODEL, content, 0) ?? divisionFault(content, constants);
  } catch {
    return DAMAGED;
  }
}

/**
 * Check that whole numbers are divided only by positive constants of the graph: division by 0 ends the process, and so
 * does division of the smallest number by -1. A value is known to be a float if its operands are; a name that occurs
 * twice is not known.
 */
function divisionFault(model: Uint8Array, constants: Record<string, number>): string | undefined {
  const named = new Map<string, number>();
  const name = (value: Value | undefined) => named.set(text(value), (named.get(text(value)) ?? 0) + 1);
  const floats = new Set<string>();
  const nodes: [number, Value][][] = [];
  const last = (message: Value | undefined) => new Map(message === undefined ? [] : fields(message));
  const isFloat = (type: Value | undefined) => type === 1 || type === 10 || type === 11;
  const all = (node: [number, Value][], wanted: number) => node.filter(([field]) => field === wanted).map(([, value]) => value);

  function graph(message: Value, outer: boolean): void {
    const bodies: Value[] = [];
    for (const [field, value] of fields(message)!) {
      if (field === 1) {
        const node = fields(value)!;
        nodes.push(node);
        all(node, 2).forEach(name);
        bodies.push(...all(node, 5).flatMap((attribute) => fields(attribute)!.filter(([f]) => f === 6 || f === 11).map(([, v]) => v)));
      } else if (field === 5 || field === 11) {
        const entry = last(value);
        const own = entry.get(field === 5 ? 8 : 1);
        name(own);
        if (outer && isFloat(field === 5 ? entry.get(2) : last(last(entry.get(2)).get(1)).get(1))) {
          floats.add(text(own));
        }
      }
    }
    bodies.forEach((body) => graph(body, false));
  }

  graph(last(model).get(7)!, true);
  const known = (value: Value | undefined) => named.get(text(value)) === 1;
  for (const node of nodes) {
    const operator = text(all(node, 4).at(-1));
    const taken = all(node, 1);
    const typed = typed_as_all.includes(operator)
      ? taken
      : operator === "Where"
        ? taken.slice(1)
        : taken.slice(0, +(operator === "TopK" || typed_as_first.includes(operator)));
    const ofFloats = typed.some((input) => known(input) && floats.has(text(input)));
    const [, divisor] = taken;
    if (operator === "Mod" || (operator === "Div" && !ofFloats)) {
      const by = constants[text(divisor)]!;
      if (!(known(divisor) && by > 0 && by < 2 ** 63)) {
        return "it divides whole numbers by something else than a positive constant";
      }
    }
    const casts = all(node, 5).map(last).filter((attribute) => text(attribute.get(1)) === "to");
    const cast = operator === "Cast" && casts.length === 1 && isFloat(casts[0]!.get(3));
    if (ofFloats || cast || operator === "DequantizeLinear") {
      floats.add(text(all(node, 2)[0]));
    }
  }
  return undefined;
}

const text = (value: Value | undefined) => (typeof value === "object" ? utf8(value) : "");

/** Return the fields of a message, which are numbers or bytes; undefined if it is truncated. */
function fields(message: Value): [field: number, value: Value][] | undefined {
  if (typeof message === "number") {
    return undefined;
  }
  const found: [number, Value][] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    let byte = 128;
    // Exact up to 2^53: larger sizes are refused anyway.
    for (let place = 1; byte > 127; place *= 128) {
      byte = message[at++] ?? NaN;
      value += (byte & 127) * place;
    }
    return byte >= 0 ? value : NaN;
  };
  while (at < message.length) {
    const key = varint();
    let value: Value = 0;
    if (key % 8 === 0) {
      value = varint();
    } else if (key % 8 === 2) {
      const length = varint();
      value = message.subarray(at, at + length);
      at += length;
    } else {
      at += key % 8 === 5 ? 4 : key % 8 === 1 ? 8 : NaN;
    }
    if (!(at <= message.length)) {
      return undefined;
    }
    if (found.push([Math.floor(key / 8), value]) > limits.graph_messages) {
      return undefined;
    }
  }
  return found;
}
