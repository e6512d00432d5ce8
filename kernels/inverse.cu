// # Towards the inverse of many small matrices
//
// What Nystroemformer's and SOFT's iterations need beside products (src/tensor/cpu_inverse.c). A
// block takes a matrix of 64 to 256 rows. All of them together are a few megabytes: a launch, some
// 3 us, is what they cost.

#include "primitives.cuh"

namespace MRA_BACKEND
{

enum { PLACES = 4, HALVINGS = 10 };

struct identity_minus_each {
    size_t m;
    float factor;
    const float *x;
    float *y;
    __device__ void operator()(size_t at) const
    {
        const size_t row = at / m % m, column = at % m;
        y[at] = (row == column ? factor : 0.0f) - x[at];
    }
};
mra_status identity_minus(mra_device *device, size_t groups, int m, float factor,
                          const float *x, float *y, mra_error *err)
{
    const size_t side = (size_t)m;
    return for_each(device, "identity_minus", groups * side * side,
                    identity_minus_each{side, factor, x, y}, err);
}

// ---- The first guess ------------------------------------------------------------------------

struct guess_plan {
    int rule;
    bool joint;
    size_t groups, m;
    const float *x, *dy, *scale;
    float *sums;     // [groups, 2]: largest sums of a row and of a column; backward: [groups]
    float *distance; // [groups]: |I - scale x x|_1
    const float *square; // [groups, m, m]: x x
    int *settled;        // [groups]
    float *new_scale, *y;
    int32_t *places;
};

// The largest of one value a thread, and the lowest line that has it; thread 0 gets them.
__device__ static void block_largest(float &value, int &line)
{
    MRA_SHARED(float, values, THREADS);
    MRA_SHARED(int, lines, THREADS);
    __syncthreads();
    values[threadIdx.x] = value;
    lines[threadIdx.x] = line;
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 1; i < THREADS; i++)
        if (values[i] > value || (values[i] == value && lines[i] < line)) {
            value = values[i];
            line = lines[i];
        }
}

__global__ void measure_kernel(guess_plan p)
{
    const size_t group = blockIdx.x, m = p.m;
    const float *x = p.x + group * m * m;
    float most[2] = {-1.0f, -1.0f};
    int line[2] = {INT32_MAX, INT32_MAX};
    for (size_t i = threadIdx.x; i < m; i += THREADS) {
        float sum[2] = {0.0f, 0.0f};
        for (size_t j = 0; j < m; j++) {
            sum[0] += fabsf(x[i * m + j]);
            sum[1] += fabsf(x[j * m + i]);
        }
        for (int which = 0; which < 2; which++)
            if (sum[which] > most[which]) most[which] = sum[which], line[which] = (int)i;
    }
    for (int which = 0; which < 2; which++) {
        block_largest(most[which], line[which]);
        if (threadIdx.x != 0) continue;
        p.sums[2 * group + which] = most[which];
        p.places[PLACES * group + 2 * which] = (int32_t)group;
        p.places[PLACES * group + 2 * which + 1] = line[which];
    }
}

// One block: `joint` gives all groups the largest sums of any; then the scales of the rule.
__global__ void guess_scale_kernel(guess_plan p)
{
    MRA_SHARED(float, joint_sum, 2);
    MRA_SHARED(int, joint_place, 4);
    if (p.joint && threadIdx.x < 2) {
        const size_t which = threadIdx.x;
        size_t best = 0;
        for (size_t g = 1; g < p.groups; g++)
            if (p.sums[2 * g + which] > p.sums[2 * best + which]) best = g;
        joint_sum[which] = p.sums[2 * best + which];
        joint_place[2 * which] = (int)best;
        joint_place[2 * which + 1] = p.places[PLACES * best + 2 * which + 1];
    }
    __syncthreads();
    for (size_t g = threadIdx.x; g < p.groups; g += THREADS) {
        const float row = p.joint ? joint_sum[0] : p.sums[2 * g];
        const float column = p.joint ? joint_sum[1] : p.sums[2 * g + 1];
        for (int i = 0; i < PLACES && p.joint; i++) p.places[PLACES * g + i] = joint_place[i];
        p.new_scale[g] = p.rule == MRA_INVERSE_NORMS    ? 1.0f / (row * column)
                         : p.rule == MRA_INVERSE_SQUARE ? 1.0f / (row * row)
                                                        : 2.0f / (row * row);
        p.settled[g] = 0;
    }
}

// |I - scale x x|_1 of a group.
__global__ void distance_kernel(guess_plan p)
{
    const size_t group = blockIdx.x, m = p.m;
    const float *square = p.square + group * m * m, scale = p.new_scale[group];
    float most = 0.0f;
    bool broken = false; // NaN is farther than anything
    for (size_t j = threadIdx.x; j < m; j += THREADS) {
        float sum = 0.0f;
        for (size_t i = 0; i < m; i++)
            sum += fabsf((i == j ? 1.0f : 0.0f) - scale * square[i * m + j]);
        broken = broken || !(sum <= INFINITY);
        most = fmaxf(most, sum);
    }
    most = block_max(most);
    const int any = __syncthreads_or(broken);
    if (threadIdx.x == 0) p.distance[group] = any ? INFINITY : most;
}

// One block: halves the scales of groups that are too far (`joint`: of all, if any is).
__global__ void halve_kernel(guess_plan p)
{
    int far = 0;
    for (size_t g = threadIdx.x; g < p.groups; g += THREADS) far |= !(p.distance[g] <= 1.01f);
    const bool any = __syncthreads_or(far);
    for (size_t g = threadIdx.x; g < p.groups; g += THREADS) {
        if (p.joint ? !any : p.distance[g] <= 1.01f) p.settled[g] = 1;
        if (!p.settled[g]) p.new_scale[g] *= 0.5f;
    }
}

struct guess_each {
    guess_plan p;
    __device__ void operator()(size_t at) const
    {
        const size_t group = at / (p.m * p.m), i = at / p.m % p.m, j = at % p.m;
        p.y[at] = p.new_scale[group] * p.x[(group * p.m + j) * p.m + i];
    }
};

static mra_status halve(mra_device *device, const guess_plan &p, float *square, mra_error *err)
{
    stream_t stream = stream_of(device);
    mra_product product;
    product.batch = p.groups;
    product.m = product.n = product.k = (int)p.m;
    product.transpose_a = product.transpose_b = false;
    product.alpha = 1.0f;
    mra_status status = gemm(device, &product, p.x, p.x, square, false, err);
    if (status) return status;
    for (int k = 0; k < HALVINGS; k++) {
        MRA_LAUNCH(distance_kernel, (unsigned)p.groups, THREADS, 0, stream, p);
        MRA_LAUNCH(halve_kernel, 1, THREADS, 0, stream, p);
    }
    return launch_status(stream, "inverse_guess", err);
}

mra_status inverse_guess(mra_device *device, int rule, bool joint, size_t groups, int m,
                         const float *x, float *y, float *scale, int32_t *places,
                         mra_error *err)
{
    const char *name = "inverse_guess";
    if (!groups || !m) return MRA_OK;
    const size_t size = groups * (size_t)m * (size_t)m;
    const bool halved = rule == MRA_INVERSE_HALVED;
    mra_status status = working_begin(device,
                                      working_size(2 * groups * sizeof(float)) +
                                          2 * working_size(groups * sizeof(float)) +
                                          working_size(halved ? size * sizeof(float) : 0),
                                      name, err);
    if (status) return status;
    guess_plan p = {};
    p.rule = rule, p.joint = joint, p.groups = groups, p.m = (size_t)m;
    p.x = x, p.y = y, p.new_scale = scale, p.places = places;
    p.sums = working_piece<float>(device, 2 * groups);
    p.distance = working_piece<float>(device, groups);
    p.settled = working_piece<int>(device, groups);
    float *square = halved ? working_piece<float>(device, size) : NULL;
    p.square = square;
    stream_t stream = stream_of(device);
    MRA_LAUNCH(measure_kernel, (unsigned)groups, THREADS, 0, stream, p);
    MRA_LAUNCH(guess_scale_kernel, 1, THREADS, 0, stream, p);
    status = halved ? halve(device, p, square, err) : launch_status(stream, name, err);
    return status ? status : for_each(device, name, size, guess_each{p}, err);
}

// Group by group: <dy, x^T>, and dx += scale dy^T.
__global__ void guess_inner_kernel(guess_plan p)
{
    const size_t group = blockIdx.x, m = p.m, start = group * m * m;
    float inner = 0.0f;
    for (size_t at = threadIdx.x; at < m * m; at += THREADS) {
        const size_t turned = start + at % m * m + at / m;
        inner += p.dy[start + at] * p.x[turned];
        p.y[turned] += p.scale[group] * p.dy[start + at];
    }
    inner = block_sum(inner);
    if (threadIdx.x == 0) p.sums[group] = inner;
}

// dx += factor sign(x) along the deciding row or column, by a block. The next one may cross this one: the barriers of
// its sum part their additions.
__device__ static void add_signs(const guess_plan &p, const int32_t *place, bool row,
                                 float slope)
{
    const size_t start = (size_t)place[0] * p.m * p.m, line = (size_t)place[1];
    float sum = 0.0f;
    for (size_t j = threadIdx.x; j < p.m; j += THREADS)
        sum += fabsf(p.x[start + (row ? line * p.m + j : j * p.m + line)]);
    const float factor = slope / block_sum(sum);
    for (size_t j = threadIdx.x; j < p.m; j += THREADS) {
        const size_t at = start + (row ? line * p.m + j : j * p.m + line);
        p.y[at] += p.x[at] > 0.0f ? factor : p.x[at] < 0.0f ? -factor : 0.0f;
    }
}

// One block, group after group: several may add to the same deciding row.
__global__ void guess_signs_kernel(guess_plan p)
{
    for (size_t g = 0; g < p.groups; g++) {
        const float slope = -p.scale[g] * p.sums[g];
        const bool norms = p.rule == MRA_INVERSE_NORMS;
        add_signs(p, p.places + PLACES * g, true, (norms ? 1.0f : 2.0f) * slope);
        if (norms) add_signs(p, p.places + PLACES * g + 2, false, slope);
    }
}

mra_status inverse_guess_backward(mra_device *device, int rule, size_t groups, int m,
                                  const float *x, const float *scale, const int32_t *places,
                                  const float *dy, float *dx, mra_error *err)
{
    const char *name = "inverse_guess_backward";
    if (!groups || !m) return MRA_OK;
    mra_status status = working_begin(device, working_size(groups * sizeof(float)), name, err);
    if (status) return status;
    guess_plan p = {};
    p.rule = rule, p.groups = groups, p.m = (size_t)m;
    p.x = x, p.dy = dy, p.scale = scale, p.y = dx, p.places = (int32_t *)places;
    p.sums = working_piece<float>(device, groups);
    MRA_LAUNCH(guess_inner_kernel, (unsigned)groups, THREADS, 0, stream_of(device), p);
    MRA_LAUNCH(guess_signs_kernel, 1, THREADS, 0, stream_of(device), p);
    return launch_status(stream_of(device), name, err);
}

// ---- The guard ------------------------------------------------------------------------------

__global__ void bounded_kernel(size_t count, float limit, const float *b, int32_t *chosen)
{
    const float *own = b + blockIdx.x * count;
    int outside = 0;
    for (size_t i = threadIdx.x; i < count; i += THREADS) outside |= !(fabsf(own[i]) <= limit);
    outside = __syncthreads_or(outside);
    if (threadIdx.x == 0) chosen[blockIdx.x] = !outside;
}

__global__ void all_bounded_kernel(size_t groups, int32_t *chosen)
{
    int outside = 0;
    for (size_t g = threadIdx.x; g < groups; g += THREADS) outside |= !chosen[g];
    outside = __syncthreads_or(outside);
    for (size_t g = threadIdx.x; g < groups; g += THREADS) chosen[g] = !outside;
}

struct keep_each {
    size_t count;
    const float *a, *b;
    float *y;
    const int32_t *chosen;
    __device__ void operator()(size_t i) const
    {
        y[i] = chosen[i / count] ? b[i] : a[i];
    }
};
mra_status keep_bounded(mra_device *device, bool joint, size_t groups, size_t count,
                        float limit, const float *a, const float *b, float *y, int32_t *chosen,
                        mra_error *err)
{
    if (!groups) return MRA_OK;
    stream_t stream = stream_of(device);
    MRA_LAUNCH(bounded_kernel, (unsigned)groups, THREADS, 0, stream, count, limit, b, chosen);
    if (joint) MRA_LAUNCH(all_bounded_kernel, 1, THREADS, 0, stream, groups, chosen);
    return for_each(device, "keep_bounded", groups * count, keep_each{count, a, b, y, chosen},
                    err);
}

struct copy_chosen_each {
    size_t count;
    const int32_t *chosen;
    int wanted;
    const float *x;
    float *y;
    bool add;
    __device__ void operator()(size_t i) const
    {
        const float value = chosen[i / count] == wanted ? x[i] : 0.0f;
        y[i] = add ? y[i] + value : value;
    }
};
mra_status copy_chosen(mra_device *device, size_t groups, size_t count, const int32_t *chosen,
                       int wanted, const float *x, float *y, bool add, mra_error *err)
{
    return for_each(device, "copy_chosen", groups * count,
                    copy_chosen_each{count, chosen, wanted, x, y, add}, err);
}

} // namespace MRA_BACKEND
