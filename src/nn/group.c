// Processes that train one network together.
//
// Floating-point sums depend on their order, and MPI_Reduce is free to choose it. So no sum of gradients is left to MPI:
// it only carries numbers to where they are added, in an order that the settings fix. What crosses the network
// in a step is twice the size of the network per process and part, as in the usual ring.
//
// MPI is entered only when the environment says that mpirun (or srun) started this process: a program run by
// hand owes it neither its start-up time nor its demands on the machine.

#include "nn/group.h"

#include <stdlib.h>
#include <string.h>

#ifdef MRA_HAVE_MPI
#include <mpi.h>
#endif

enum { MOST_PROCESSES = 4096 };

// How many processes the environment says were started together: by Open MPI; by MPICH and its relatives; by Slurm with PMIx.
static int started_together(void)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    if (!size) size = getenv("PMI_SIZE");
    if (!size && getenv("PMIX_RANK")) size = getenv("SLURM_NTASKS");
    return size ? atoi(size) : 1;
}

size_t mra_group_slice(const mra_group *group, size_t size, int rank)
{
    const size_t count = (size_t)group->count, whole = size / count, rest = size % count;
    return whole * (size_t)rank + rest * (size_t)rank / count;
}

#ifdef MRA_HAVE_MPI

mra_status mra_group_open(mra_group *group, mra_error *err)
{
    *group = (mra_group){.count = 1};
    if (started_together() < 2) return MRA_OK;
    int given;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &given) != MPI_SUCCESS)
        return mra_fail(err, MRA_IO, "MPI cannot be initialised");
    MPI_Comm_rank(MPI_COMM_WORLD, &group->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &group->count);
    if (group->count > MOST_PROCESSES)
        return mra_fail(err, MRA_BAD_INPUT, "%d processes, at most %d can train together",
                        group->count, MOST_PROCESSES);
    return MRA_OK;
}

void mra_group_close(mra_group *group)
{
    int initialised = 0;
    MPI_Initialized(&initialised);
    if (initialised) MPI_Finalize();
    *group = (mra_group){.count = 1};
}

bool mra_group_any(const mra_group *group, bool here)
{
    if (group->count == 1) return here;
    int mine = here, any = 0;
    MPI_Allreduce(&mine, &any, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
    return any != 0;
}

mra_status mra_group_agree(const mra_group *group, mra_status status, mra_error *err)
{
    if (group->count == 1) return status;
    int mine = status == MRA_OK ? group->count : group->rank, first = 0;
    MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
    if (first == group->count) return MRA_OK;
    mra_error shared = {.status = status};
    if (first == group->rank && err) shared = *err;
    MPI_Bcast(&shared, (int)sizeof shared, MPI_BYTE, first, MPI_COMM_WORLD);
    if (err) *err = shared;
    return shared.status;
}

void mra_group_broadcast(const mra_group *group, void *bytes, size_t count)
{
    const size_t most = 1 << 28; // counts of MPI are ints
    char *at = bytes;
    for (size_t done = 0; group->count > 1 && done < count; done += most) {
        const size_t now = count - done < most ? count - done : most;
        MPI_Bcast(at + done, (int)now, MPI_BYTE, 0, MPI_COMM_WORLD);
    }
}

void mra_group_sum(const mra_group *group, double *values, size_t count)
{
    if (group->count > 1)
        MPI_Allreduce(MPI_IN_PLACE, values, (int)count, MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD);
}

// Counts and displacements of all slices of `size` entries.
static void lay_out(const mra_group *group, size_t size, int *counts, int *starts)
{
    for (int r = 0; r < group->count; r++) {
        starts[r] = (int)mra_group_slice(group, size, r);
        counts[r] = (int)mra_group_slice(group, size, r + 1) - starts[r];
    }
}

void mra_group_send_slices(const mra_group *group, size_t size, const float *values,
                           float *slots, size_t stride)
{
    if (group->count == 1) {
        memcpy(slots, values, size * sizeof *slots);
        return;
    }
    int counts[MOST_PROCESSES], starts[MOST_PROCESSES], own[MOST_PROCESSES], at[MOST_PROCESSES];
    lay_out(group, size, counts, starts);
    for (int r = 0; r < group->count; r++) {
        own[r] = counts[group->rank];
        at[r] = (int)((size_t)r * stride);
    }
    MPI_Alltoallv(values, counts, starts, MPI_FLOAT, slots, own, at, MPI_FLOAT, MPI_COMM_WORLD);
}

void mra_group_join_slices(const mra_group *group, size_t size, const float *slice,
                           float *values)
{
    if (group->count == 1) {
        memcpy(values, slice, size * sizeof *values);
        return;
    }
    int counts[MOST_PROCESSES], starts[MOST_PROCESSES];
    lay_out(group, size, counts, starts);
    MPI_Allgatherv(slice, counts[group->rank], MPI_FLOAT, values, counts, starts, MPI_FLOAT,
                   MPI_COMM_WORLD);
}

#else

// ---- Built without MPI: a group is one process -------------------------------------------------------

mra_status mra_group_open(mra_group *group, mra_error *err)
{
    *group = (mra_group){.count = 1};
    if (started_together() < 2) return MRA_OK;
    return mra_fail(err, MRA_ABSENT,
                    "started as one of several processes, but this program was built without "
                    "MPI: install libopenmpi-dev, make clean, and make again");
}

void mra_group_close(mra_group *group)
{
    *group = (mra_group){.count = 1};
}

bool mra_group_any(const mra_group *group, bool here)
{
    (void)group;
    return here;
}

mra_status mra_group_agree(const mra_group *group, mra_status status, mra_error *err)
{
    (void)group;
    (void)err;
    return status;
}

void mra_group_broadcast(const mra_group *group, void *bytes, size_t count)
{
    (void)group;
    (void)bytes;
    (void)count;
}

void mra_group_sum(const mra_group *group, double *values, size_t count)
{
    (void)group;
    (void)values;
    (void)count;
}

void mra_group_send_slices(const mra_group *group, size_t size, const float *values,
                           float *slots, size_t stride)
{
    (void)group;
    (void)stride;
    memcpy(slots, values, size * sizeof *slots);
}

void mra_group_join_slices(const mra_group *group, size_t size, const float *slice,
                           float *values)
{
    (void)group;
    memcpy(values, slice, size * sizeof *values);
}

#endif
