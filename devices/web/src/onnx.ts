/**
 * What is in an ONNX file, as far as trust in it needs: operators, and tensors that lie elsewhere. A reader of
 * protobuf's wire format, of the fields that are named here alone; all others are passed over.
 */

import { limits, operators, typed_as_all, typed_as_first } from "../../../edgerec/runtime/bundle-spec.json";
import type { Section } from "./manifest.ts";
import { utf8, type Bytes } from "./source.ts";

const DAMAGED = "it is damaged, or no bundle's";
/** A tensor's type. */
const INT64 = 7;

type Value = number | Uint8Array;
/** The fields of a message that hold messages; null: what no bundle has. */
interface Kind {
  [field: number]: Kind | null;
}

const TENSOR: Kind = {};
const NODE: Kind = {};
const GRAPH: Kind = { 1: NODE, 5: TENSOR, 15: null };
/** An attribute; 22, 23, and 15 of a graph, are sparse tensors, 20 and 25 of a model training and functions. */
NODE[5] = { 5: TENSOR, 6: GRAPH, 10: TENSOR, 11: GRAPH, 22: null, 23: null };
const MODEL: Kind = { 7: GRAPH, 20: null, 25: null };

/**
 * @param tables the file that external tensors must lie in.
 * @param tensors the external tensors that the manifest names.
 * @param rows of the items: a loop takes one at a time at least.
 * @returns why the graph is refused; undefined where it is not.
 */
export function graphFault(content: Uint8Array, tables: string, tensors: Map<string, Section>, rows: number): string | undefined {
  /** Whole numbers of the graph itself, by name: onnxruntime refuses nodes that make what has the name of one. */
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
        return DAMAGED; // two graphs, which would be merged
      }
      last[field] = value;
      if (field === 1) {
        input ??= value;
        dims.push(value as number); // the exporter packs none
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
      // A Loop stands in the graph itself, and what it runs may scan; a Scan has no other loop inside.
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
    // Of a graph the tensors first: a loop's end is among them.
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
 * Whole numbers are divided by positive constants of the graph alone: 0 ends the process, and of the least number -1
 * does. What is divided is known for floats where what it is made of is; what has its name twice is not known to be
 * anything.
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
        const told = last(value);
        const own = told.get(field === 5 ? 8 : 1);
        name(own);
        if (outer && isFloat(field === 5 ? told.get(2) : last(last(told.get(2)).get(1)).get(1))) {
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

/** The fields of a message: numbers, and the bytes of all that has a length. Undefined of one that is cut. */
function fields(message: Value): [field: number, value: Value][] | undefined {
  if (typeof message === "number") {
    return undefined;
  }
  const found: [number, Value][] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    let byte = 128;
    // Exact up to 2^53: what is larger is no size that is taken.
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
