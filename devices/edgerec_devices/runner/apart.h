/* Scenarios that are asked for in a process of their own: a cold load, a load of minutes, and throughput. */
#ifndef EDGEREC_APART_H
#define EDGEREC_APART_H

#include "scenarios.h"

/* Write '"cold": {load_ms, first_ms, faults}' of a bundle that is opened and asked once with its files out of the page
   cache, or '"warm_because": reason'. Nothing of it may be open. */
void write_cold(FILE *out, const Runtime *runtime, const char *folder, int threads, Asker *asker);

/* Recommend for so many seconds and write '"sustained": [...]': windows of one second {at_s, count, p50_ms} and, where
   they can be read, mhz of the core it ran on and temperature_c of the hottest zone. */
void write_sustained(FILE *out, const Scenario *recommend, double seconds);

/* Recommend for many users at once and write '"offline": [...]' {threads, batch, calls, users_per_second}, for 1, 2, 4,
   ... threads up to the cores and batches of 1, 16 and 256 users, as long as their scores fit into 64 MiB. */
void write_offline(FILE *out, const Runtime *runtime, const Bundle *bundle, Asker *asker, double seconds);

#endif
