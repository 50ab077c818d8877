/* Scenarios that run in a process of their own: a cold load, minutes of sustained load, and throughput. */
#ifndef EDGEREC_ISOLATED_H
#define EDGEREC_ISOLATED_H

#include "scenarios.h"

/* Evict the bundle's files from the page cache, open the bundle, call it once, and write
   '"cold": {load_ms, first_ms, faults}', or '"warm_because": reason' if they cannot be evicted. None of its files may
   be open. */
void write_cold(FILE *out, const Runtime *runtime, const char *folder, int threads, Generator *generator);

/* Recommend without a pause for `seconds` and write '"sustained": [...]': windows of one second {at_s, count, p50_ms}
   and, if they can be read, mhz of the core that it ran on and temperature_c of the hottest thermal zone. */
void write_sustained(FILE *out, const Scenario *recommend, double seconds);

/* Recommend for batches of users and write '"offline": [...]' {threads, batch, calls, users_per_second}, for 1, 2, 4,
   ... threads up to the number of cores and batches of 1, 16 and 256 users whose scores fit into 64 MiB. */
void write_offline(FILE *out, const Runtime *runtime, const Bundle *bundle, Generator *generator, double seconds);

#endif
