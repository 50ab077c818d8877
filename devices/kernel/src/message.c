/* A line for each status. */
#include "kernel.h"

const char *er_message(er_status status) {
#if ER_MESSAGES
    switch (status) {
    case ER_OK: return "no error";
    case ER_MEMORY: return "the memory that was given is too small";
    case ER_ALIGNMENT: return "memory and tables must begin at a multiple of 8 bytes";
    case ER_NO_SHA256: return "this build has no sha256; build it with -DER_SHA256=1, or open without verify";
    case ER_NO_SIGNATURES: return "this build checks no signatures; build it with -DER_SIGNATURES=1";
    case ER_REQUEST: return "give one of user, history and vector, of the kind that this bundle takes";
    case ER_ROW: return "a row is not in the bundle";
    case ER_K: return "k must be a whole number from 1 to the number of items";
    case ER_VECTOR: return "a vector must have finite numbers";
    case ER_SCORES: return "the vector has scores beyond float32; give a smaller one";
    case ER_EMPTY: return "the history is empty, and the bundle does not say which items are popular: give an item";
    case ER_NO_POPULAR: return "this bundle does not say which items are popular; export it again with --item-counts";
    case ER_NO_SIMILAR: return "this bundle was exported without similar items";
    case ER_NO_ENCODE: return "this bundle has no vectors of histories";
    case ER_ID: return "the ids of this bundle are of another kind";
    case ER_ATTRIBUTE: return "the bundle has no attribute of this number";
    case ER_RARITY: return "rarity must be a number in -2..2, and the bundle one that says which items are rare";
    case ER_BUNDLE: return "this is no bundle of EdgeRec";
    case ER_VERSION: return "the bundle has a newer version than this reader; upgrade";
    case ER_FEATURE: return "the bundle requires a feature that this reader does not know; upgrade";
    case ER_HEAD: return "the head of the file is damaged; get the bundle again";
    case ER_JSON: return "the manifest is no JSON object, or too large; get the bundle again";
    case ER_MANIFEST: return "the manifest is damaged; get the bundle again";
    case ER_SECTION: return "a section is missing or damaged; get the bundle again";
    case ER_SIZE: return "a file has another size than the manifest says; get the bundle again";
    case ER_FILE: return "a file of the bundle is missing; copy the bundle again";
    case ER_SCALES:
        return "integers of version 1.0 have their scales in graphs; export the bundle again, as version 2.0";
    case ER_TABLES: return "the tables are damaged; get the bundle again";
    case ER_IDS: return "the ids, titles or attributes are damaged; get the bundle again";
    case ER_UNSUPPORTED: return "the bundle has more dimensions or layers than this reader takes; use onnxruntime";
    case ER_ALTERED: return "a file is not the one that the manifest describes (sha256 differs); get the bundle again";
    case ER_UNSIGNED: return "the bundle is not signed by a trusted key";
    case ER_SIGNATURE: return "the manifest was altered after it was signed; get the bundle again";
    case ER_ROLLBACK: return "the bundle is older than this app accepts; get a newer one";
    }
    return "an unknown status";
#else
    (void)status;
    return "";
#endif
}

er_status er_kind(er_status status) {
    return status < ER_REQUEST    ? (status ? ER_MEMORY : ER_OK)
           : status < ER_BUNDLE   ? ER_REQUEST
           : status < ER_UNSIGNED ? ER_BUNDLE
                                  : ER_SIGNATURE;
}
