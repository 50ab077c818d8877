/* A bundle on disk, with its manifest checked and its tables file mapped once (docs/reference/bundle.md). */
#ifndef EDGEREC_BUNDLE_H
#define EDGEREC_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

#include "json.h"

enum { MOST_DIMENSIONS = 8 };

/* A section of the tables file, as the manifest describes it: [offset, dtype, shape]. */
typedef struct {
    int type; /* ONNXTensorElementDataType */
    size_t offset, nbytes, rank;
    int64_t shape[MOST_DIMENSIONS];
} Section;

typedef struct {
    char *folder;
    Json *manifest;
    int64_t items, users, d; /* users: 0 if user vectors are computed from histories */
    void *tables;            /* the read-only mapping; NULL if the file is empty */
    size_t nbytes;           /* size of the tables file */
} Bundle;

/* Open the bundle in a folder. Sizes are compared, sha256 is not. The process fails if it is no bundle, or damaged. */
Bundle *bundle_open(const char *folder);
void bundle_close(Bundle *bundle);

/* Return the manifest's entry of a graph; NULL if the bundle has none of that name. */
const Json *bundle_graph(const Bundle *bundle, const char *name);

/* Return the path of a file entry {file, bytes, ...}; the caller frees it. The process fails if the name leads out of
   the bundle, or if the file is missing or has another size. */
char *bundle_file(const Bundle *bundle, const Json *entry, size_t *nbytes);

/* Read a section; the process fails if it does not lie inside the tables file. */
Section bundle_section(const Bundle *bundle, const Json *entry);

/* Evict the bundle's files from the page cache; false if any of their pages stay in it. None of them may be open. */
bool bundle_forget(const char *folder);

#endif
