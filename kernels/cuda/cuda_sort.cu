// # Sorting by CUB
//
// A radix sort over as many bits as the keys can have, with the places as values; stable, so the
// order of equal keys is theirs.

#include <cub/device/device_radix_sort.cuh>

#include "cuda_own.cuh"

namespace MRA_BACKEND
{

static int bits_below(int bound)
{
    int bits = 1;
    while (bits < 31 && (1 << bits) < bound) bits++;
    return bits;
}

static cudaError_t sort(void *storage, size_t *bytes, size_t count, int bound,
                        const int32_t *keys, int32_t *sorted, const int32_t *from, int32_t *to,
                        stream_t stream)
{
    return cub::DeviceRadixSort::SortPairs(storage, *bytes, (const uint32_t *)keys,
                                           (uint32_t *)sorted, from, to, count, 0,
                                           bits_below(bound), stream);
}

size_t own_sort_bytes(mra_device *device, size_t count, int bound)
{
    size_t bytes = 0;
    sort(NULL, &bytes, count, bound, NULL, NULL, NULL, NULL, stream_of(device));
    return working_size(bytes) + working_size(count * sizeof(int32_t));
}

struct count_up {
    int32_t *place;
    __device__ void operator()(size_t i) const
    {
        place[i] = (int32_t)i;
    }
};

mra_status own_sort(mra_device *device, size_t count, int bound, const int32_t *keys,
                    int32_t *sorted, int32_t *place, mra_error *err)
{
    stream_t stream = stream_of(device);
    size_t bytes = 0;
    cudaError_t error = sort(NULL, &bytes, count, bound, NULL, NULL, NULL, NULL, stream);
    if (error != cudaSuccess) return cuda_status(error, "sorting", err);
    void *storage = working_piece<char>(device, bytes);
    int32_t *from = working_piece<int32_t>(device, count);
    mra_status status = for_each(device, "sort", count, count_up{from}, err);
    if (status) return status;
    error = sort(storage, &bytes, count, bound, keys, sorted, from, place, stream);
    return cuda_status(error, "sorting", err);
}

} // namespace MRA_BACKEND
