package org.edgerec;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The security check of an ONNX file before onnxruntime reads it: a graph is a program, and may be hostile. It accepts
 * the exporter's operators, tables at the manifest's places, and the few fields of the format that these need. Repeated
 * fields are refused, because readers differ in which one they use. edgerec/runtime/graph_check.py is the reference.
 */
final class GraphCheck {
    private static final int INT64 = 7;
    /** Data types by their numbers in ONNX. */
    private static final String[] DTYPES = {
        null, "float32", "uint8", "int8", "uint16", "int16", "int32", "int64", null, "bool8", "float16", "float64",
        "uint32", "uint64"
    };
    /** The fields of each message: a number, four bytes, bytes, text, or a message; * if there may be several. */
    private static final Map<String, Map<Integer, String>> KINDS = new HashMap<>();

    static {
        for (String kind : new String[] {
            "model 1:number 2:text 7:graph 8:*opset",
            "opset 1:text 2:number",
            "graph 1:*node 2:text 5:*tensor 11:*value 12:*value 13:*value",
            "node 1:*text 2:*text 3:text 4:text 5:*attribute",
            "attribute 1:text 2:four 3:number 4:bytes 6:graph 7:*four 8:*number 20:number",
            "tensor 1:*number 2:number 8:text 9:bytes 13:*entry 14:number",
            "entry 1:text 2:text",
            "value 1:text 2:type",
            "type 1:held",
            "held 1:number 2:shape",
            "shape 1:*dimension",
            "dimension 1:number 2:text",
        }) {
            String[] words = kind.split(" ");
            Map<Integer, String> fields = new HashMap<>();
            for (String field : Arrays.copyOfRange(words, 1, words.length)) {
                fields.put(Integer.valueOf(field.split(":")[0]), field.split(":")[1]);
            }
            KINDS.put(words[0], fields);
        }
    }

    /** Values (Long, byte[] or Message) by the number of their field. */
    private static final class Message extends HashMap<Integer, List<Object>> {
        private static final long serialVersionUID = 1;

        List<Object> all(int field) {
            return getOrDefault(field, Collections.emptyList());
        }

        /** Return the text of a field; empty if there is none. */
        String text(int field) {
            return text(all(field).isEmpty() ? new byte[0] : all(field).get(0));
        }

        static String text(Object bytes) {
            return new String((byte[]) bytes, StandardCharsets.US_ASCII);
        }

        long number(int field) {
            return all(field).isEmpty() ? 0 : (Long) all(field).get(0);
        }

        List<Message> messages(int field) {
            List<Message> found = new ArrayList<>();
            for (Object one : all(field)) {
                found.add((Message) one);
            }
            return found;
        }
    }

    /** The reason why a graph is refused. */
    private static final class Fault extends Exception {
        private static final long serialVersionUID = 1;

        Fault(String why) {
            super(why);
        }
    }

    private final Map<String, Long> constants = new HashMap<>();
    private final int rows;

    private GraphCheck(int rows) {
        this.rows = rows;
    }

    /**
     * Check a graph.
     *
     * @param tables the file that must contain the external tensors.
     * @param tensors the external tensors that the manifest names; the graph must have exactly these.
     * @param rows number of items, and maximum number of iterations of a loop.
     * @return why the graph is refused; null if it is accepted.
     */
    static String fault(byte[] content, String tables, Map<String, Manifest.Section> tensors, int rows) {
        try {
            Message model = read("model", content, 0, content.length, 0, new int[] {Spec.GRAPH_MESSAGES});
            for (Message opset : model.messages(8)) {
                need(opset.text(1).isEmpty(), "it takes operators of " + opset.text(1));
            }
            need(model.containsKey(7), "it holds no graph");
            Message graph = model.messages(7).get(0);
            GraphCheck check = new GraphCheck(rows);
            check.tensors(graph.messages(5), tables, tensors);
            for (Message node : graph.messages(1)) {
                for (Object output : node.all(2)) {
                    check.constants.remove(Message.text(output));
                }
            }
            check.nodes(graph, false, null);
            check.divisions(graph);
            return null;
        } catch (Fault fault) {
            return fault.getMessage();
        }
    }

    private static void need(boolean holds, String fault) throws Fault {
        if (!holds) {
            throw new Fault(fault);
        }
    }

    /** Check that tensors are complete in the file itself, or at the manifest's places. */
    private void tensors(List<Message> found, String tables, Map<String, Manifest.Section> promised) throws Fault {
        Set<String> names = new HashSet<>();
        Set<String> external = new HashSet<>();
        for (Message tensor : found) {
            String name = tensor.text(8);
            need(names.add(name), "two of its tensors have one name");
            int kind = (int) Math.min(tensor.number(2), DTYPES.length);
            boolean known = kind > 0 && kind < DTYPES.length && DTYPES[kind] != null;
            need(known, "its tensor '" + name + "' is of a type that no bundle has");
            List<Object> dims = tensor.all(1);
            if (tensor.containsKey(13) || tensor.containsKey(14)) {
                need(rightPlace(tensor, DTYPES[kind], dims, tables, promised.get(name)),
                        "its table '" + name + "' lies elsewhere than the manifest says");
                external.add(name);
                continue;
            }
            long size = Long.parseLong(DTYPES[kind].replaceAll("\\D+", "")) / 8;
            for (Object length : dims) {
                boolean fits = (Long) length >= 0 && (size == 0 || (Long) length <= Integer.MAX_VALUE / size);
                need(fits, "its tensor '" + name + "' is too large");
                size *= (Long) length;
            }
            need(tensor.containsKey(9), "its tensor '" + name + "' holds nothing");
            byte[] raw = (byte[]) tensor.all(9).get(0);
            need(raw.length == size, "its tensor '" + name + "' has another size than promised");
            if (kind == INT64 && dims.isEmpty()) {
                constants.put(name, ByteBuffer.wrap(raw).order(ByteOrder.LITTLE_ENDIAN).getLong());
            }
        }
        need(external.equals(promised.keySet()), "its tables are not those that the manifest names");
    }

    private static boolean rightPlace(
            Message tensor, String dtype, List<Object> dims, String tables, Manifest.Section promised) {
        Map<String, String> place = new HashMap<>();
        for (Message entry : tensor.messages(13)) {
            place.put(entry.text(1), entry.text(2));
        }
        if (promised == null || tensor.containsKey(9) || tensor.number(14) != 1 || tensor.messages(13).size() != 3) {
            return false;
        }
        boolean right = tables.equals(place.get("location"))
                && String.valueOf(promised.offset).equals(place.get("offset"))
                && String.valueOf(promised.bytes).equals(place.get("length"))
                && promised.dtype.equals(dtype)
                && promised.shape.length == dims.size();
        for (int n = 0; right && n < dims.size(); n++) {
            right = promised.shape[n] == (Long) dims.get(n);
        }
        return right;
    }

    /** Check operators and loops: a Loop must be in the main graph and may contain a Scan; a Scan contains no loop. */
    private void nodes(Message graph, boolean inside, String within) throws Fault {
        for (Message node : graph.messages(1)) {
            String operator = node.text(4);
            need(Spec.OPERATORS.contains(operator), "it calls " + operator + ", which no bundle does");
            boolean loop = operator.equals("Loop");
            boolean scan = operator.equals("Scan");
            need(!(loop && within != null || scan && "Scan".equals(within)), "it has a loop inside a loop");
            if (loop) {
                Long end = constants.get(node.text(1));
                need(!inside && end != null && end >= 0 && end <= rows, "it has a loop without end");
            }
            for (Message attribute : node.messages(5)) {
                for (Message body : attribute.messages(6)) {
                    need(!body.containsKey(5), "it has tensors inside a loop or a branch");
                    nodes(body, true, loop || scan ? operator : within);
                }
            }
        }
    }

    /**
     * Check that whole numbers are divided only by positive constants of the file: division by 0 ends the process, and
     * so does division of the smallest number by -1. A value is known to be a float if its operands are; a name that
     * occurs twice is not known.
     */
    private void divisions(Message outer) throws Fault {
        List<Message> graphs = new ArrayList<>();
        collect(outer, graphs);
        Map<String, Integer> named = new HashMap<>();
        Set<String> floats = new HashSet<>();
        for (Message tensor : outer.messages(5)) {
            named.merge(tensor.text(8), 1, Integer::sum);
            if (isFloat(tensor.number(2))) {
                floats.add(tensor.text(8));
            }
        }
        for (Message graph : graphs) {
            for (Message value : graph.messages(11)) {
                named.merge(value.text(1), 1, Integer::sum);
                if (graph == outer && isFloat(element(value))) {
                    floats.add(value.text(1));
                }
            }
            for (Message node : graph.messages(1)) {
                for (Object output : node.all(2)) {
                    named.merge(Message.text(output), 1, Integer::sum);
                }
            }
        }
        for (Message graph : graphs) {
            for (Message node : graph.messages(1)) {
                division(node, named, floats);
            }
        }
    }

    private void division(Message node, Map<String, Integer> named, Set<String> floats) throws Fault {
        String operator = node.text(4);
        List<Object> taken = node.all(1);
        boolean ofFloats = false;
        for (Object input : typed(operator, taken)) {
            String name = Message.text(input);
            ofFloats |= floats.contains(name) && named.getOrDefault(name, 0) == 1;
        }
        if (operator.equals("Mod") || operator.equals("Div") && !ofFloats) {
            String divisor = taken.size() > 1 ? Message.text(taken.get(1)) : "";
            boolean known = named.getOrDefault(divisor, 0) == 1 && constants.getOrDefault(divisor, 0L) > 0;
            need(known, "it divides whole numbers by something else than a positive constant");
        }
        int casts = 0;
        boolean toFloat = false;
        for (Message attribute : node.messages(5)) {
            if (attribute.text(1).equals("to")) {
                casts++;
                toFloat = isFloat(attribute.number(3));
            }
        }
        boolean cast = operator.equals("Cast") && casts == 1 && toFloat;
        if ((ofFloats || cast || operator.equals("DequantizeLinear")) && !node.all(2).isEmpty()) {
            floats.add(Message.text(node.all(2).get(0)));
        }
    }

    /** Return the inputs that have the type of the first output. */
    private static List<Object> typed(String operator, List<Object> taken) {
        if (Spec.TYPED_AS_ALL.contains(operator)) {
            return taken;
        }
        if (operator.equals("Where")) {
            return taken.subList(Math.min(1, taken.size()), taken.size());
        }
        boolean first = Spec.TYPED_AS_FIRST.contains(operator) || operator.equals("TopK");
        return taken.subList(0, first ? Math.min(1, taken.size()) : 0);
    }

    /** Collect a graph and the graphs inside it. */
    private static void collect(Message graph, List<Message> found) {
        found.add(graph);
        for (Message node : graph.messages(1)) {
            for (Message attribute : node.messages(5)) {
                for (Message body : attribute.messages(6)) {
                    collect(body, found);
                }
            }
        }
    }

    private static boolean isFloat(long type) {
        return type == 1 || type == 10 || type == 11;
    }

    /** Return the type of an input's entries; 0 if it has none. */
    private static long element(Message value) {
        for (Message type : value.messages(2)) {
            for (Message tensor : type.messages(1)) {
                return tensor.number(1);
            }
        }
        return 0;
    }

    /** Read a message and all messages inside it. */
    private static Message read(String kind, byte[] content, int start, int end, int depth, int[] left) throws Fault {
        need(depth < Spec.GRAPH_LEVELS, "it is nested too deeply");
        need(left[0]-- > 0, "it holds more than " + Spec.GRAPH_MESSAGES + " messages");
        Message found = new Message();
        int[] at = {start};
        while (at[0] < end) {
            long key = varint(content, at, end);
            String field = key >>> 3 > 100 ? null : KINDS.get(kind).get((int) (key >>> 3));
            need(field != null, "it holds a field " + (key >>> 3) + " of a " + kind + ", which no bundle has");
            String what = field.replace("*", "");
            int number = (int) (key >>> 3);
            need(field.startsWith("*") || !found.containsKey(number),
                    "it says field " + number + " of a " + kind + " twice");
            int wire = what.equals("number") ? 0 : what.equals("four") ? 5 : 2;
            need((key & 7) == wire, "it holds a field " + number + " of a " + kind + " in another form");
            long size = wire == 5 ? 4 : varint(content, at, end);
            Object value = size;
            if (wire != 0) {
                need(size >= 0 && size <= end - at[0], "it is cut");
                int from = at[0];
                at[0] += (int) size;
                value = KINDS.containsKey(what) ? read(what, content, from, at[0], depth + 1, left)
                        : Arrays.copyOfRange(content, from, at[0]);
                if (what.equals("text")) {
                    for (byte letter : (byte[]) value) {
                        need(letter >= 0, "it holds a name that no bundle has");
                    }
                }
            }
            found.computeIfAbsent(number, none -> new ArrayList<>()).add(value);
        }
        return found;
    }

    /** Read a whole number of up to 64 bits at a position, and move the position to its end. */
    private static long varint(byte[] content, int[] at, int end) throws Fault {
        long value = 0;
        for (int shift = 0; shift < 70; shift += 7) {
            need(at[0] < end, "it is cut");
            byte part = content[at[0]++];
            value |= shift < 64 ? (part & 127L) << shift : 0;
            if (part >= 0) {
                return value;
            }
        }
        throw new Fault("it holds a number of more than 64 bits");
    }
}
