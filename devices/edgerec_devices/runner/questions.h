/* Questions to a bundle in its row numbers, random or from a request, and their answers. */
#ifndef EDGEREC_QUESTIONS_H
#define EDGEREC_QUESTIONS_H

#include "session.h"

/* A batch of users, histories or vectors; absent fields are NULL. */
typedef struct {
    size_t batch, n_history, n_listed; /* number of questions; item rows per history, and per list */
    int64_t *users, *history, *listed; /* (batch); (batch, n_history); (batch, n_listed): excluded rows, or candidates */
    float *vector;                     /* (batch, d) */
    int64_t k;
} Question;

/* The sessions of a bundle, each opened on first use. */
typedef struct {
    const Runtime *runtime;
    const Bundle *bundle;
    int threads;
    Session *recommend, *score, *similar, *encode;
} Model;

typedef enum { RECOMMEND, SCORE, SIMILAR, ENCODE } Graph;

/* The outputs of a graph: float32 values (scores, or a vector), and the rows of the best items. */
typedef struct {
    float *values;
    int64_t *items;
    size_t count;
} Answer;

Model model_open(const Runtime *runtime, const Bundle *bundle, int threads);
void model_close(Model *model);

/* Return the session of a graph. The process fails if the bundle has no such graph. */
Session *model_session(Model *model, Graph graph);

/* Call a graph; if the bundle has an encode graph, it computes the vectors of histories first. A NULL `answer` discards
   the outputs. */
void model_run(Model *model, Graph graph, const Question *question, Answer *answer);
void answer_free(Answer *answer);

/* The generator of random questions and their sizes. */
typedef struct {
    uint64_t state; /* starts as the seed */
    int64_t items, users, k;
    size_t exclude, history;
} Generator;

/* Allocate `batch` questions with `listed` items each; `draw_question` fills them. */
Question question_allocate(const Generator *generator, size_t batch, size_t listed);
void draw_question(Generator *generator, Question *question);

/* Parse a question of a request: user, history or vector; exclude, candidates or item; k. The process fails if a row is
   not in the bundle. */
Question question_of(const Bundle *bundle, const Json *json, Graph *graph);
void question_free(Question *question);

#endif
