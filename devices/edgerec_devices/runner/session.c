#include "session.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "spec.h"

enum { OLDEST_API = 18 }; /* onnxruntime 1.18; later libraries still provide it */

/* y = Relu(x), x float32 [1]: the same bytes as edgerec.runtime.memory.one_node_model(). */
static const unsigned char ONE_NODE[] = {
    0x08, 0x08, 0x3a, 0x36, 0x0a, 0x0c, 0x0a, 0x01, 0x78, 0x12, 0x01, 0x79, 0x22, 0x04, 0x52, 0x65, 0x6c, 0x75,
    0x12, 0x04, 0x62, 0x61, 0x72, 0x65, 0x5a, 0x0f, 0x0a, 0x01, 0x78, 0x12, 0x0a, 0x0a, 0x08, 0x08, 0x01, 0x12,
    0x04, 0x0a, 0x02, 0x08, 0x01, 0x62, 0x0f, 0x0a, 0x01, 0x79, 0x12, 0x0a, 0x0a, 0x08, 0x08, 0x01, 0x12, 0x04,
    0x0a, 0x02, 0x08, 0x01, 0x42, 0x02, 0x10, 0x0e,
};

Runtime runtime_open(const char *path) {
    setenv("ORT_DISABLE_TELEMETRY", "1", 1); /* read when the library is loaded */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) fail("cannot open onnxruntime's library: %s", dlerror());
    const OrtApiBase *(*base)(void);
    *(void **)&base = dlsym(library, "OrtGetApiBase");
    if (base == NULL) fail("%s is not onnxruntime's library", path);
    Runtime runtime = {.version = base()->GetVersionString(), .api = base()->GetApi(OLDEST_API)};
    if (runtime.api == NULL) fail("onnxruntime %s is too old; 1.18 or newer is needed", runtime.version);
    runtime_check(&runtime, runtime.api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "edgerec", &runtime.environment), "start");
    runtime_check(&runtime, runtime.api->DisableTelemetryEvents(runtime.environment), "telemetry");
    runtime_check(&runtime, runtime.api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &runtime.memory),
                  "memory");
    return runtime;
}

void runtime_close(Runtime *runtime) {
    runtime->api->ReleaseMemoryInfo(runtime->memory);
    runtime->api->ReleaseEnv(runtime->environment);
}

void runtime_check(const Runtime *runtime, OrtStatus *status, const char *what) {
    if (status) fail("onnxruntime %s: %s: %s", runtime->version, what, runtime->api->GetErrorMessage(status));
}

OrtValue *tensor(const Runtime *runtime, const void *values, size_t nbytes, const int64_t *shape, size_t rank, int type) {
    static char nothing[8]; /* onnxruntime needs an address even for no bytes */
    OrtValue *value = NULL;
    void *place = nbytes ? (void *)(uintptr_t)values : nothing; /* onnxruntime never writes to inputs */
    runtime_check(runtime,
                  runtime->api->CreateTensorWithDataAsOrtValue(runtime->memory, place, nbytes, shape, rank,
                                                               (ONNXTensorElementDataType)type, &value),
                  "a tensor");
    return value;
}

/* Register one arena for all sessions of a bundle, as edgerec/runtime/bundle.py does. */
static void share_arena(const Runtime *runtime) {
    OrtStatus *status = runtime->api->CreateAndRegisterAllocator(runtime->environment, runtime->memory, NULL);
    if (status) runtime->api->ReleaseStatus(status); /* there is one already */
}

static OrtSessionOptions *plain_options(const Runtime *runtime, int threads) {
    const OrtApi *api = runtime->api;
    OrtSessionOptions *options = NULL;
    runtime_check(runtime, api->CreateSessionOptions(&options), "options");
    runtime_check(runtime, api->SetIntraOpNumThreads(options, threads), "threads");
    runtime_check(runtime, api->SetInterOpNumThreads(options, 1), "threads");
    runtime_check(runtime, api->SetSessionLogSeverityLevel(options, ORT_LOGGING_LEVEL_FATAL), "options");
    return options;
}

static void configure(const Runtime *runtime, OrtSessionOptions *options, const char *key, const char *value) {
    runtime_check(runtime, runtime->api->AddSessionConfigEntry(options, key, value), key);
}

/* Return true if a manifest may set this session option: others could name files to write. */
static bool allowed(const char *option) {
    static const char *const known[] = SPEC_SESSION_OPTIONS;
    for (size_t one = 0; one < sizeof known / sizeof *known; one++)
        if (strcmp(known[one], option) == 0) return true;
    return false;
}

/* Create session options from the bundle's manifest and the settings of the Python runtime. */
static OrtSessionOptions *bundle_options(const Runtime *runtime, const Bundle *bundle, int threads) {
    OrtSessionOptions *options = plain_options(runtime, threads);
    share_arena(runtime);
    runtime_check(runtime, runtime->api->DisableMemPattern(options), "options");
    configure(runtime, options, "session.use_env_allocators", "1");
    const Json *wanted = json_member("manifest.json", bundle->manifest, "session", JSON_OBJECT);
    for (const Json *entry = wanted->first; entry; entry = entry->next) {
        if (entry->kind != JSON_STRING) fail("manifest.json is damaged: the session option %s is no text", entry->key);
        if (allowed(entry->key)) configure(runtime, options, entry->key, entry->text);
    }
    static const char *const fixed[][2] = SPEC_READER_OPTIONS;
    for (size_t one = 0; one < sizeof fixed / sizeof *fixed; one++) configure(runtime, options, fixed[one][0], fixed[one][1]);
    return options;
}

/* Pass every tensor of the graph as a view of the mapping: sessions that map the file themselves would each count its
   pages again. */
static void add_tables(Session *session, const Bundle *bundle, const Json *entry, OrtSessionOptions *options) {
    const Runtime *runtime = session->runtime;
    const Json *tensors = json_member("manifest.json", entry, "tensors", JSON_OBJECT);
    session->tables = allocate(tensors->count, sizeof(OrtValue *));
    for (const Json *place = tensors->first; place; place = place->next) {
        Section section = bundle_section(bundle, place);
        const char *values = section.nbytes ? (const char *)bundle->tables + section.offset : NULL;
        OrtValue *view = tensor(runtime, values, section.nbytes, section.shape, section.rank, section.type);
        session->tables[session->n_tables++] = view;
        runtime_check(runtime, runtime->api->AddInitializer(options, place->key, view), place->key);
    }
}

Session *session_open(const Runtime *runtime, const Bundle *bundle, const char *graph, int threads) {
    const Json *entry = bundle_graph(bundle, graph);
    if (entry == NULL) fail("the bundle %s has no '%s' graph", bundle->folder, graph);
    size_t nbytes;
    char *path = bundle_file(bundle, entry, &nbytes);
    Session *session = allocate(1, sizeof *session);
    session->runtime = runtime;
    OrtSessionOptions *options = bundle_options(runtime, bundle, threads);
    add_tables(session, bundle, entry, options);
    /* Opened by path: onnxruntime looks for the tables file in the same folder, although it reads nothing from it. */
    runtime_check(runtime, runtime->api->CreateSession(runtime->environment, path, options, &session->session), path);
    runtime->api->ReleaseSessionOptions(options);
    free(path);
    return session;
}

void session_close(Session *session) {
    if (session == NULL) return;
    session->runtime->api->ReleaseSession(session->session);
    for (size_t number = 0; number < session->n_tables; number++)
        session->runtime->api->ReleaseValue(session->tables[number]);
    free(session->tables);
    free(session);
}

void session_run(const Session *session, const char *const *inputs, const OrtValue *const *values, size_t n_inputs,
                 const char *const *outputs, OrtValue **answers, size_t n_outputs) {
    for (size_t number = 0; number < n_outputs; number++) answers[number] = NULL;
    OrtStatus *status = session->runtime->api->Run(session->session, NULL, inputs, values, n_inputs, outputs, n_outputs,
                                                   answers);
    runtime_check(session->runtime, status, "a call failed");
}

void run_bare_session(const Runtime *runtime, int threads) {
    static const char *const inputs[] = {"x"}, *const outputs[] = {"y"};
    static const int64_t shape[] = {1};
    const float x = 0;
    Session bare = {.runtime = runtime};
    OrtSessionOptions *options = plain_options(runtime, threads);
    OrtStatus *status = runtime->api->CreateSessionFromArray(runtime->environment, ONE_NODE, sizeof ONE_NODE, options,
                                                             &bare.session);
    runtime_check(runtime, status, "a session of one node");
    OrtValue *given = tensor(runtime, &x, sizeof x, shape, 1, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT), *answer;
    session_run(&bare, inputs, (const OrtValue *const *)&given, 1, outputs, &answer, 1);
    runtime->api->ReleaseValue(answer);
    runtime->api->ReleaseValue(given);
    runtime->api->ReleaseSession(bare.session);
    runtime->api->ReleaseSessionOptions(options);
}
