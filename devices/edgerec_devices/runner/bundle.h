/* A bundle on disk: its manifest checked, its tables file mapped once. Specified in docs/reference/bundle.md. */
#ifndef EDGEREC_BUNDLE_H
#define EDGEREC_BUNDLE_H

#include <stddef.h>
#include <stdint.h>

#include "json.h"

enum { MOST_DIMENSIONS = 8 };

/* A place in the tables file, as the manifest gives it: [offset, dtype, shape]. */
typedef struct {
    int type; /* ONNXTensorElementDataType */
    size_t offset, nbytes, rank;
    int64_t shape[MOST_DIMENSIONS];
} Section;

typedef struct {
    char *folder;
    Json *manifest;
    int64_t items, users, d; /* users: 0 where a user's vector is made of a history */
    void *tables;            /* the mapping, read-only; NULL where the file has no bytes */
    size_t nbytes;           /* of the tables file */
} Bundle;

/* Open the bundle in a folder: sizes are compared, sha256 is not. The process fails where it is none, or damaged. */
Bundle *bundle_open(const char *folder);
void bundle_close(Bundle *bundle);

/* The manifest's entry of a graph; NULL where the bundle has none of that name. */
const Json *bundle_graph(const Bundle *bundle, const char *name);

/* The path of a file entry {file, bytes, ...}, to be freed. The process fails where its name leaves the bundle, the file
   is missing, or has another size. */
char *bundle_file(const Bundle *bundle, const Json *entry, size_t *nbytes);

/* A place that lies inside the tables file; the process fails where it does not. */
Section bundle_section(const Bundle *bundle, const Json *entry);

/* Take the bundle's files out of the page cache; false where the system kept any of them. Nothing of it may be open. */
bool bundle_forget(const char *folder);

#endif
