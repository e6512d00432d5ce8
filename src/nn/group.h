// Processes that train one network together (MPI).
//
//     mpirun -n 2 build/bin/mra train FILE.ini train.accumulate=2
//
// Every process reads the data and holds the whole network. A batch comes in parts (train.accumulate), which the processes share
// out; then they add up the gradients in the order of the parts (nn/gradient.h) and make the same update.
// So the weights have the same bits as those of one process with the same settings.
//
// Without MPI, or when the program was not started by mpirun or its like, a group is one process and every function below
// does nothing. All functions but open and close are collective: every process of the group calls them in the same order.
#ifndef MRA_NN_GROUP_H
#define MRA_NN_GROUP_H

#include <stdbool.h>
#include <stddef.h>

#include "core/error.h"

typedef struct mra_group {
    int rank, count; // this process, 0 <= rank < count
} mra_group;

// Joins the processes that mpirun started, if it did. MRA_ABSENT: it did, but this program was built without MPI. Once in a
// process.
mra_status mra_group_open(mra_group *group, mra_error *err);
void mra_group_close(mra_group *group);

// Whether any process says so.
bool mra_group_any(const mra_group *group, bool here);
// MRA_OK if every process says MRA_OK; otherwise, in all of them, status and message of the first one that does not.
// So what fails in one process ends all of them in order.
mra_status mra_group_agree(const mra_group *group, mra_status status, mra_error *err);
// Process 0's bytes, in all processes.
void mra_group_broadcast(const mra_group *group, void *bytes, size_t count);
// The sums over processes, entry by entry; exact where all but one of them have 0.
void mra_group_sum(const mra_group *group, double *values, size_t count);

// A long array is cut into as many slices as there are processes; slice r, [r size / count, (r + 1) size / count), is
// process r's.
size_t mra_group_slice(const mra_group *group, size_t size, int rank); // where it begins
// Sends slice r of `values` (size entries) to process r. The own slice of process r's values lands at slots + r stride.
void mra_group_send_slices(const mra_group *group, size_t size, const float *values,
                           float *slots, size_t stride);
// The inverse: `slice`, the own one, and those of the others, together in `values` of all processes.
void mra_group_join_slices(const mra_group *group, size_t size, const float *slice,
                           float *values);

#endif
