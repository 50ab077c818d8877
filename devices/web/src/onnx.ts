/**
 * What is in an ONNX file, as far as trust in it needs: operators, and tensors that lie elsewhere. A reader of
 * protobuf's wire format, of the fields that are named here alone; all others are passed over.
 */

import type { Section } from "./manifest.ts";
import { utf8, type Bytes } from "./source.ts";

/** What the exporter uses, of ONNX's own operators alone. */
const OPERATORS =
  /^(Abs|Add|BitShift|BitwiseAnd|Cast|Concat|CumSum|DequantizeLinear|Div|Equal|Expand|Flatten|Gather(Elements)?|(Greater|Less)(OrEqual)?|Identity|If|Loop|MatMul(Integer)?|Max|Min|Mod|Mul|NonZero|Or|Pad|Pow|Range|Reduce(Max|Min|Sum(Square)?)|Relu|Reshape|Round|Scan|ScatterElements|Shape|Slice|Sqrt|(Uns|S)queeze|Sub|TopK|Transpose|Where)$/;
/** Messages inside messages; the exporter's loops inside loops reach 8. */
const DEEPEST = 24;

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

  function check(kind: Kind | null, message: Value, depth: number, scanning?: boolean): string | undefined {
    const found = kind && depth < DEEPEST && fields(message);
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
      if (!OPERATORS.test(operator) || last[7]?.toString()) {
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
    return check(MODEL, content, 0);
  } catch {
    return DAMAGED;
  }
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
    found.push([Math.floor(key / 8), value]);
  }
  return found;
}
