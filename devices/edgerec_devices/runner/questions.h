/* Questions to a bundle in its rows, random ones and given ones, and their answers. */
#ifndef EDGEREC_QUESTIONS_H
#define EDGEREC_QUESTIONS_H

#include "session.h"

/* A batch of users, histories or vectors; what is not given is NULL. */
typedef struct {
    size_t batch, n_history, n_listed; /* questions; item rows of a history, and of a list */
    int64_t *users, *history, *listed; /* (batch); (batch, n_history); (batch, n_listed): excluded rows, or candidates */
    float *vector;                     /* (batch, d) */
    int64_t k;
} Question;

/* The sessions of a bundle, opened when first asked. */
typedef struct {
    const Runtime *runtime;
    const Bundle *bundle;
    int threads;
    Session *recommend, *score, *similar, *encode;
} Model;

typedef enum { RECOMMEND, SCORE, SIMILAR, ENCODE } Graph;

/* What a graph answered: float32 values (scores, or a vector), and item rows of the best, to be freed. */
typedef struct {
    float *values;
    int64_t *items;
    size_t count;
} Answer;

Model model_open(const Runtime *runtime, const Bundle *bundle, int threads);
void model_close(Model *model);

/* The session of a graph. The process fails where there is none. */
Session *model_session(Model *model, Graph graph);

/* Ask; where a graph of its own makes vectors of histories, it is called before. A NULL `answer` is not kept. */
void model_ask(Model *model, Graph graph, const Question *question, Answer *answer);
void answer_free(Answer *answer);

/* What random questions are like. */
typedef struct {
    uint64_t state; /* of the generator; begins as the seed */
    int64_t items, users, k;
    size_t exclude, history;
} Asker;

/* Room for `batch` random questions with so many `listed` items each; `ask_at_random` fills it. */
Question question_with_room(const Asker *asker, size_t batch, size_t listed);
void ask_at_random(Asker *asker, Question *question);

/* A question of a request: user, history or vector; exclude, candidates or item; k. The process fails where a row is
   outside of the bundle. */
Question question_of(const Bundle *bundle, const Json *asked, Graph *graph);
void question_free(Question *question);

#endif
