// Parts of a batch on streams of their own.
//
// The stages of attention ask for different things: pooling for memory, selection for latency,
// refined boxes for the second-level cache and the tensor cores. Heads do not know of each other,
// so a batch is cut into parts, and while one part pools another multiplies. Each part runs its
// stages in order on its stream; all begin after what the device's stream holds already, and it
// goes on after all of them. The sequence may be captured into a CUDA graph. The host runner has
// one stream: there parts follow one another.
#ifndef MRA_KERNELS_PARTS_CUH
#define MRA_KERNELS_PARTS_CUH

#include "launch.cuh"

namespace MRA_BACKEND::attention
{

enum { MOST_PARTS = 4 };

#ifdef __CUDACC__

struct part_streams {
    int count; // parts; the first uses the device's stream
    cudaStream_t stream[MOST_PARTS];
    cudaEvent_t begin, end[MOST_PARTS];
};

inline void close_parts(part_streams *parts)
{
    for (int i = 1; i < MOST_PARTS; i++) {
        if (parts->end[i]) cudaEventDestroy(parts->end[i]);
        if (parts->stream[i]) cudaStreamDestroy(parts->stream[i]);
    }
    if (parts->begin) cudaEventDestroy(parts->begin);
}

// Streams for `count` parts; *parts begins as zeros. What has been made is closed by close_parts,
// also after a failure.
inline mra_status open_parts(part_streams *parts, int count, mra_error *err)
{
    parts->count = count;
    if (count < 2) return MRA_OK;
    cudaError_t error = cudaEventCreateWithFlags(&parts->begin, cudaEventDisableTiming);
    for (int i = 1; i < count && error == cudaSuccess; i++) {
        error = cudaEventCreateWithFlags(&parts->end[i], cudaEventDisableTiming);
        if (error == cudaSuccess)
            error = cudaStreamCreateWithFlags(&parts->stream[i], cudaStreamNonBlocking);
    }
    if (error == cudaSuccess) return MRA_OK;
    return mra_fail(err, MRA_INTERNAL, "attention: streams: %s", cudaGetErrorString(error));
}

inline void fork(const part_streams &parts, cudaStream_t stream)
{
    if (parts.count < 2) return;
    cudaEventRecord(parts.begin, stream);
    for (int i = 1; i < parts.count; i++) cudaStreamWaitEvent(parts.stream[i], parts.begin, 0);
}

inline void join(const part_streams &parts, cudaStream_t stream)
{
    for (int i = 1; i < parts.count; i++) {
        cudaEventRecord(parts.end[i], parts.stream[i]);
        cudaStreamWaitEvent(stream, parts.end[i], 0);
    }
}

inline cudaStream_t stream_of_part(const part_streams &parts, int part, cudaStream_t stream)
{
    return part == 0 ? stream : parts.stream[part];
}

#else

struct part_streams {
    int count;
};

inline void close_parts(part_streams *)
{
}
inline mra_status open_parts(part_streams *parts, int count, mra_error *)
{
    parts->count = count;
    return MRA_OK;
}
inline void fork(const part_streams &, stream_t)
{
}
inline void join(const part_streams &, stream_t)
{
}
inline stream_t stream_of_part(const part_streams &, int, stream_t stream)
{
    return stream;
}

#endif

// The heads of part `part`: whole sequences, so that a part marks the tokens that it needs.
inline plan part_of(const plan &p, const part_streams &parts, int part)
{
    int each = p.heads / p.batch, first = p.batch * part / parts.count;
    plan own = p;
    own.first_head = first * each;
    own.launch_heads = (p.batch * (part + 1) / parts.count - first) * each;
    return own;
}

// How many parts pay: none below four million numbers an array, where launches take longer than
// what they overlap.
inline int parts_that_pay(const plan &p)
{
    size_t size = (size_t)p.heads * p.n * p.d;
    int parts = size < (size_t)4 << 20 ? 1 : MOST_PARTS;
    return parts < p.batch ? parts : p.batch;
}

} // namespace MRA_BACKEND::attention
#endif
