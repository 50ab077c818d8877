/* onnxruntime, loaded at run time from its library, and sessions that share the one mapping of a bundle. */
#ifndef EDGEREC_SESSION_H
#define EDGEREC_SESSION_H

#include "bundle.h"
#include "onnxruntime_c_api.h"

/* The onnxruntime environment that all sessions share. */
typedef struct {
    const OrtApi *api;
    const char *version;
    OrtEnv *environment;
    OrtMemoryInfo *memory;
} Runtime;

/* Load the library at `path` with its telemetry off. The process fails if it is not onnxruntime, or too old. */
Runtime runtime_open(const char *path);
void runtime_close(Runtime *runtime);

/* End the process if a call of onnxruntime failed; `what` names the call in the error. */
void runtime_check(const Runtime *runtime, OrtStatus *status, const char *what);

/* Create a tensor over memory that must outlive it. */
OrtValue *tensor(const Runtime *runtime, const void *values, size_t nbytes, const int64_t *shape, size_t rank, int type);

/* A graph of a bundle, ready to be called. The bundle must outlive it. */
typedef struct {
    const Runtime *runtime;
    OrtSession *session;
    OrtValue **tables;
    size_t n_tables;
} Session;

/* Open a graph. The process fails if the bundle has no graph of that name, or onnxruntime cannot open it. */
Session *session_open(const Runtime *runtime, const Bundle *bundle, const char *graph, int threads);
void session_close(Session *session);

/* Call a graph; the caller releases the outputs. */
void session_run(const Session *session, const char *const *inputs, const OrtValue *const *values, size_t n_inputs,
                 const char *const *outputs, OrtValue **answers, size_t n_outputs);

/* Open and run a session of one node, which measures what onnxruntime itself costs. */
void run_bare_session(const Runtime *runtime, int threads);

#endif
