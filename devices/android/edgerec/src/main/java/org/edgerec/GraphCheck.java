package org.edgerec;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * What is in an ONNX file, as far as trust in it needs: operators, and tensors that lie elsewhere. A reader of protobuf's
 * wire format, of the fields that are named here alone; all others are passed over.
 */
final class GraphCheck {
    /** What the exporter uses, of ONNX's own operators alone. */
    static final Set<String> OPERATORS = new HashSet<>(Arrays.asList(
            ("Abs Add BitShift BitwiseAnd Cast Concat CumSum DequantizeLinear Div Equal Expand Flatten Gather GatherElements "
                    + "Greater GreaterOrEqual Identity If Less LessOrEqual Loop MatMul MatMulInteger Max Min Mod Mul "
                    + "NonZero Or Pad Pow Range ReduceMax ReduceMin ReduceSum ReduceSumSquare Relu Reshape Round Scan "
                    + "ScatterElements Shape Slice Sqrt Squeeze Sub TopK Transpose Unsqueeze Where").split(" ")));
    /** Messages inside messages; the exporter's loops inside loops reach 8. */
    private static final int DEEPEST = 24;
    private static final String DAMAGED = "it is damaged, or holds what no bundle has";

    /** The fields of a message that hold messages; null: what no bundle has. */
    private static final class Kind extends HashMap<Integer, Kind> {
        private static final long serialVersionUID = 1;

        Kind with(int field, Kind kind) {
            put(field, kind);
            return this;
        }
    }

    private static final Kind TENSOR = new Kind();
    private static final Kind NODE = new Kind();
    private static final Kind GRAPH = new Kind().with(1, NODE).with(5, TENSOR).with(15, null);
    private static final Kind MODEL = new Kind().with(7, GRAPH).with(20, null).with(25, null);

    static {
        // An attribute; 22, 23, and 15 of a graph, are sparse tensors, 20 and 25 of a model training and functions.
        Kind attribute = new Kind().with(5, TENSOR).with(6, GRAPH).with(10, TENSOR).with(11, GRAPH);
        NODE.with(5, attribute.with(22, null).with(23, null));
    }

    /** One field: a number, or the bytes of what has a length. */
    private static final class Field {
        final int number;
        final long value;
        final byte[] bytes;

        Field(int number, long value, byte[] bytes) {
            this.number = number;
            this.value = value;
            this.bytes = bytes;
        }

        String text() {
            return bytes == null ? "" : new String(bytes, StandardCharsets.UTF_8);
        }
    }

    private final String tables;
    private final Map<String, Manifest.Section> tensors;

    private GraphCheck(String tables, Map<String, Manifest.Section> tensors) {
        this.tables = tables;
        this.tensors = tensors;
    }

    /**
     * @param tables the file that external tensors must lie in.
     * @param tensors the external tensors that the manifest names.
     * @return why the graph is refused; null where it is not.
     */
    static String fault(byte[] content, String tables, Map<String, Manifest.Section> tensors) {
        return new GraphCheck(tables, tensors).fault(MODEL, content, 0);
    }

    private String fault(Kind kind, byte[] message, int depth) {
        List<Field> fields = kind == null || message == null || depth >= DEEPEST ? null : fields(message);
        if (fields == null) {
            return DAMAGED;
        }
        Map<Integer, Field> last = new HashMap<>();
        Map<String, String> place = new HashMap<>();
        List<Long> dims = new ArrayList<>();
        for (Field field : fields) {
            last.put(field.number, field);
            if (kind.containsKey(field.number)) {
                String fault = fault(kind.get(field.number), field.bytes, depth + 1);
                if (fault != null) {
                    return fault;
                }
            }
            if (kind == TENSOR && field.number == 1) {
                dims.add(field.value); // the exporter packs none
            } else if (kind == TENSOR && field.number == 13) {
                List<Field> pair = field.bytes == null ? null : fields(field.bytes);
                if (pair == null) {
                    return DAMAGED;
                }
                String[] words = {"", ""};
                for (Field word : pair) {
                    if (word.number == 1 || word.number == 2) {
                        words[word.number - 1] = word.text();
                    }
                }
                place.put(words[0], words[1]);
            }
        }
        if (kind == NODE) {
            String operator = text(last.get(4));
            String domain = text(last.get(7));
            if (!OPERATORS.contains(operator) || !domain.isEmpty()) {
                return "it calls " + domain + " " + operator + ", which no bundle does";
            }
        }
        boolean external = last.containsKey(13) || last.containsKey(14) && last.get(14).value != 0;
        return kind == TENSOR && external ? placeFault(text(last.get(8)), place, dims) : null;
    }

    private String placeFault(String name, Map<String, String> place, List<Long> dims) {
        Manifest.Section promised = tensors.get(name);
        boolean right = promised != null
                && tables.equals(place.get("location"))
                && String.valueOf(promised.offset).equals(place.get("offset"))
                && String.valueOf(promised.bytes).equals(place.get("length"))
                && promised.shape.length == dims.size();
        for (int n = 0; right && n < dims.size(); n++) {
            right = promised.shape[n] == dims.get(n);
        }
        return right ? null : "its table '" + name + "' lies elsewhere than the manifest says";
    }

    private static String text(Field field) {
        return field == null ? "" : field.text();
    }

    /** The fields of a message; null of one that is cut. */
    private static List<Field> fields(byte[] message) {
        List<Field> found = new ArrayList<>();
        int[] at = {0};
        while (at[0] < message.length) {
            long key = varint(message, at);
            long value = 0;
            byte[] bytes = null;
            if (key < 8 || key >>> 3 > 1 << 29) {
                return null;
            }
            switch ((int) (key & 7)) {
                case 0:
                    value = varint(message, at);
                    break;
                case 1:
                    at[0] += 8;
                    break;
                case 2:
                    long length = varint(message, at);
                    if (at[0] < 0 || length < 0 || length > message.length - at[0]) {
                        return null;
                    }
                    bytes = Arrays.copyOfRange(message, at[0], at[0] + (int) length);
                    at[0] += (int) length;
                    break;
                case 5:
                    at[0] += 4;
                    break;
                default:
                    return null;
            }
            if (at[0] < 0 || at[0] > message.length) {
                return null;
            }
            found.add(new Field((int) (key >>> 3), value, bytes));
        }
        return found;
    }

    /** The number at a place, which moves behind it; below 0 where it is cut. */
    private static long varint(byte[] message, int[] at) {
        long value = 0;
        for (int shift = 0; shift < 70 && at[0] < message.length; shift += 7) {
            byte part = message[at[0]++];
            value |= shift < 64 ? (part & 127L) << shift : 0;
            if (part >= 0) {
                return value;
            }
        }
        at[0] = Integer.MIN_VALUE;
        return -1;
    }
}
