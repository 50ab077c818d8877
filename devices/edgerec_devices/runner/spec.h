/* What readers take. Made by `python -m tests.spec_sources` of edgerec/runtime/bundle-spec.json; a test compares the two. */
#ifndef EDGEREC_SPEC_H
#define EDGEREC_SPEC_H

#define SPEC_MAJOR 1
#define SPEC_MANIFEST_BYTES 4194304
#define SPEC_JSON_VALUES 262144
#define SPEC_JSON_LEVELS 32
#define SPEC_JSON_MEMBERS 4096
#define SPEC_FILES 32
#define SPEC_GRAPHS 16
#define SPEC_SECTIONS 256
#define SPEC_TENSORS 4096
#define SPEC_AXES 4
#define SPEC_GRAPH_BYTES 1048576
#define SPEC_GRAPH_LEVELS 24
#define SPEC_GRAPH_MESSAGES 65536
#define SPEC_HEADER_BYTES 4194304
#define SPEC_GROWTH 8
#define SPEC_GROWTH_ROOM 65536
#define SPEC_INFLATED 4
#define SPEC_INFLATED_ROOM 1048576
#define SPEC_BYTES_A_RUN 4
#define SPEC_NEW_ROWS_ROOM 65536

#define SPEC_SESSION_OPTIONS {"session.disable_prepacking"}
#define SPEC_READER_OPTIONS {{"optimization.disable_specified_optimizers", "ConstantFolding"}}

#endif
