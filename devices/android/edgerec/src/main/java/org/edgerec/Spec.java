package org.edgerec;

import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/** What readers take. Made by `python -m tests.spec_sources` of edgerec/runtime/bundle-spec.json; a test compares the two. */
final class Spec {
    static final Set<String> OPERATORS = new HashSet<>(Arrays.asList(
            "Abs",
            "Add",
            "BitShift",
            "BitwiseAnd",
            "Cast",
            "Concat",
            "CumSum",
            "DequantizeLinear",
            "Div",
            "Equal",
            "Expand",
            "Flatten",
            "Gather",
            "GatherElements",
            "Greater",
            "GreaterOrEqual",
            "Identity",
            "If",
            "Less",
            "LessOrEqual",
            "Loop",
            "MatMul",
            "MatMulInteger",
            "Max",
            "Min",
            "Mod",
            "Mul",
            "NonZero",
            "Or",
            "Pad",
            "Pow",
            "Range",
            "ReduceMax",
            "ReduceMin",
            "ReduceSum",
            "ReduceSumSquare",
            "Relu",
            "Reshape",
            "Round",
            "Scan",
            "ScatterElements",
            "Shape",
            "Slice",
            "Sqrt",
            "Squeeze",
            "Sub",
            "TopK",
            "Transpose",
            "Unsqueeze",
            "Where"));
    static final Set<String> TYPED_AS_ALL = new HashSet<>(Arrays.asList(
            "Add",
            "Concat",
            "Div",
            "MatMul",
            "Max",
            "Min",
            "Mul",
            "Sub"));
    static final Set<String> TYPED_AS_FIRST = new HashSet<>(Arrays.asList(
            "Abs",
            "CumSum",
            "Expand",
            "Flatten",
            "Gather",
            "GatherElements",
            "Identity",
            "Pad",
            "Pow",
            "ReduceMax",
            "ReduceMin",
            "ReduceSum",
            "ReduceSumSquare",
            "Relu",
            "Reshape",
            "Round",
            "ScatterElements",
            "Slice",
            "Sqrt",
            "Squeeze",
            "Transpose",
            "Unsqueeze"));
    static final Set<String> SESSION_OPTIONS = new HashSet<>(Arrays.asList(
            "session.disable_prepacking"));
    static final Set<String> DTYPES = new HashSet<>(Arrays.asList(
            "float16",
            "float32",
            "float64",
            "int8",
            "int16",
            "int32",
            "int64",
            "uint8",
            "uint16",
            "uint32",
            "uint64"));
    static final Map<String, String> READER_OPTIONS = new HashMap<>();
    static final int MAJOR = 1;
    static final int MANIFEST_BYTES = 4194304;
    static final int JSON_VALUES = 262144;
    static final int JSON_LEVELS = 32;
    static final int JSON_MEMBERS = 4096;
    static final int FILES = 32;
    static final int GRAPHS = 16;
    static final int SECTIONS = 256;
    static final int TENSORS = 4096;
    static final int AXES = 4;
    static final int GRAPH_BYTES = 1048576;
    static final int GRAPH_LEVELS = 24;
    static final int GRAPH_MESSAGES = 65536;
    static final int HEADER_BYTES = 4194304;
    static final int GROWTH = 8;
    static final int GROWTH_ROOM = 65536;
    static final int INFLATED = 4;
    static final int INFLATED_ROOM = 1048576;
    static final int BYTES_A_RUN = 4;
    static final int NEW_ROWS_ROOM = 65536;

    static {
        READER_OPTIONS.put("optimization.disable_specified_optimizers", "ConstantFolding");
    }

    private Spec() {}
}
