/**
 * What is in an ONNX file, as far as trust in it needs: operators, and tensors that lie elsewhere. A reader of
 * protobuf's wire format, of the fields that are named here alone; all others are passed over.
 */

import type { Section } from "./manifest.ts";

/** What the exporter uses, of ONNX's own operators alone. */
const OPERATORS = new Set(
  (
    "Abs Add BitShift BitwiseAnd Cast Concat CumSum DequantizeLinear Div Equal Expand Flatten Gather GatherElements " +
    "Greater GreaterOrEqual Identity If Less LessOrEqual Loop MatMul MatMulInteger Max Min Mod Mul NonZero Or Pad Pow " +
    "Range ReduceMax ReduceMin ReduceSum ReduceSumSquare Relu Reshape Round Scan ScatterElements Shape Slice Sqrt " +
    "Squeeze Sub TopK Transpose Unsqueeze Where"
  ).split(" "),
);
/** Messages inside messages; the exporter's loops inside loops reach 8. */
const DEEPEST = 24;

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
 * @returns why the graph is refused; undefined where it is not.
 */
export function graphFault(content: Uint8Array, tables: string, tensors: Map<string, Section>): string | undefined {
  function check(kind: Kind | null, message: Value, depth: number): string | undefined {
    const found = kind && depth < DEEPEST && fields(message);
    if (!found) {
      return "it is damaged, or holds what no bundle has";
    }
    const last: Value[] = [];
    const dims: number[] = [];
    const place: Record<string, string> = {};
    for (const [field, value] of found) {
      last[field] = value;
      const inside = kind[field];
      const fault = inside !== undefined && check(inside, value, depth + 1);
      if (fault) {
        return fault;
      }
      if (kind === TENSOR && field === 1) {
        dims.push(value as number); // the exporter packs none
      } else if (kind === TENSOR && field === 13) {
        const pair = new Map(fields(value));
        place[text(pair.get(1))] = text(pair.get(2));
      }
    }
    if (kind === NODE && (!OPERATORS.has(text(last[4])) || last[7]?.toString())) {
      return `it calls ${text(last[7])} ${text(last[4])}, which no bundle does`;
    }
    if (kind === TENSOR && (last[13] || last[14])) {
      const name = text(last[8]);
      const [offset, , shape, bytes] = tensors.get(name) ?? [];
      if (`${[place["location"], place["offset"], place["length"], dims]}` !== `${[tables, offset, bytes, shape]}`) {
        return `its table '${name}' lies elsewhere than the manifest says`;
      }
    }
    return undefined;
  }

  return check(MODEL, content, 0);
}

function text(value: Value | undefined): string {
  return typeof value === "object" ? new TextDecoder().decode(value) : "";
}

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
