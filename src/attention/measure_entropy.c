// # Entropy of a head
//
// How hard a head is to approximate depends on how spread out its attention is. The measure is
// the mean over rows of Shannon's entropy of the row of probabilities $p_{ij} = e^{l_{ij}} /
// \sum_{j'} e^{l_{ij'}}$ with logits $l_{ij} = \langle q_i, k_j\rangle / \sqrt d$:
// $$ H_i = -\sum_j p_{ij} \log p_{ij}, \qquad 0 \le H_i \le \log n . $$
// 0 is a row that attends to one token, $\log n$ one that attends to all alike.
//
// The sum is taken in one pass over the keys, as online softmax does it. With the running
// maximum $m$, keep $s = \sum_j e^{l_j - m}$ and $t = \sum_j (l_j - m)\, e^{l_j - m}$; then
// $\log p_j = l_j - m - \log s$ and
// $$ H = \log s - t / s . $$
// When the maximum rises to $m'$, with $f = e^{m - m'}$: $s \leftarrow f s$ and
// $t \leftarrow f\,(t + (m - m')\, s)$. Everything is float64, since $\log s$ and $t/s$ may
// cancel. A tile of query rows meets one chunk of keys at a time in a product of matrices, so
// that memory does not grow with $n$. Cost: $2 n^2 d$ multiplications and additions and $n^2$
// exponentials a head.

#include "attention/measure.h"

#include <cblas.h>
#include <math.h>
#include <stdlib.h>

#include "core/core.h"

enum { TILE_ROWS = 32, CHUNK_KEYS = 256 };

typedef struct entropy_job {
    mra_shape shape;
    const float *q, *k;
    const uint8_t *mask;
    double logit_scale;
    size_t tiles;        // tiles of rows per head
    double *tile_sum;    // [batch * heads][tiles]: sum of the row entropies of the tile
    double *scratch;     // [threads][scratch_size]
    size_t scratch_size; // in doubles
} entropy_job;

typedef struct row_state {
    double max, sum, weighted; // m, s and t of the text
} row_state;

// Adds one chunk of logits to the state of a row; masked keys have logit -infinity.
static void absorb(row_state *row, const double *logit, int count)
{
    double max = row->max;
    for (int j = 0; j < count; j++) max = logit[j] > max ? logit[j] : max;
    if (max == -INFINITY) return; // nothing to see so far
    if (max > row->max && row->sum > 0) {
        double factor = exp(row->max - max);
        row->weighted = factor * (row->weighted + (row->max - max) * row->sum);
        row->sum *= factor;
    }
    row->max = max;
    for (int j = 0; j < count; j++) {
        double below = logit[j] - max;
        if (below < -700) continue; // exp(-700) is 1e-304: lost in any sum that holds a 1
        double p = exp(below);
        row->sum += p;
        row->weighted += below * p;
    }
}

static void widen(double *to, const float *from, size_t count, double factor)
{
    for (size_t i = 0; i < count; i++) to[i] = factor * from[i];
}

// One tile of rows of one head against all keys.
static void entropy_of_tile(void *context, size_t item, int thread)
{
    const entropy_job *job = context;
    int n = job->shape.n, d = job->shape.d;
    size_t head = item / job->tiles, tile = item % job->tiles;
    const float *q = job->q + head * (size_t)n * (size_t)d;
    const float *k = job->k + head * (size_t)n * (size_t)d;
    const uint8_t *mask =
        job->mask == NULL ? NULL : job->mask + head / (size_t)job->shape.heads * (size_t)n;
    int first = (int)tile * TILE_ROWS;
    int rows = n - first < TILE_ROWS ? n - first : TILE_ROWS;
    double *query = job->scratch + (size_t)thread * job->scratch_size;
    double *key = query + TILE_ROWS * d, *logit = key + CHUNK_KEYS * d;
    row_state state[TILE_ROWS];
    for (int i = 0; i < rows; i++) state[i] = (row_state){.max = -INFINITY};
    widen(query, q + (size_t)first * (size_t)d, (size_t)rows * (size_t)d, job->logit_scale);
    for (int start = 0; start < n; start += CHUNK_KEYS) {
        int keys = n - start < CHUNK_KEYS ? n - start : CHUNK_KEYS;
        widen(key, k + (size_t)start * (size_t)d, (size_t)keys * (size_t)d, 1);
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, keys, d, 1, query, d, key, d,
                    0, logit, CHUNK_KEYS);
        for (int i = 0; i < rows; i++) {
            double *row = logit + i * CHUNK_KEYS;
            for (int j = 0; j < keys && mask != NULL; j++)
                if (!mask[start + j]) row[j] = -INFINITY;
            absorb(&state[i], row, keys);
        }
    }
    double sum = 0;
    for (int i = 0; i < rows; i++)
        if (mask == NULL || mask[first + i])
            sum += log(state[i].sum) - state[i].weighted / state[i].sum;
    job->tile_sum[item] = sum;
}

// The mean over the unmasked rows of each head, from the sums of its tiles, in their order.
static void average(const entropy_job *job, double *entropy)
{
    size_t heads = (size_t)job->shape.batch * (size_t)job->shape.heads;
    for (size_t head = 0; head < heads; head++) {
        double sum = 0;
        for (size_t tile = 0; tile < job->tiles; tile++)
            sum += job->tile_sum[head * job->tiles + tile];
        int rows = job->shape.n;
        if (job->mask != NULL) {
            const uint8_t *mask =
                job->mask + head / (size_t)job->shape.heads * (size_t)job->shape.n;
            rows = 0;
            for (int i = 0; i < job->shape.n; i++) rows += mask[i] != 0;
        }
        entropy[head] = rows > 0 ? sum / rows : 0;
    }
}

mra_status mra_measure_entropy(mra_shape shape, const float *q, const float *k,
                               const uint8_t *mask, double logit_scale, int threads,
                               double *entropy, mra_error *err)
{
    if (shape.batch < 1 || shape.heads < 1 || shape.n < 1 || shape.d < 1)
        return mra_fail(err, MRA_BAD_INPUT,
                        "entropy: shape [%d, %d, %d, %d]: expected sizes of "
                        "at least 1",
                        shape.batch, shape.heads, shape.n, shape.d);
    if (threads < 1) threads = mra_default_threads();
    size_t heads = (size_t)shape.batch * (size_t)shape.heads;
    entropy_job job = {.shape = shape,
                       .q = q,
                       .k = k,
                       .mask = mask,
                       .logit_scale = logit_scale != 0 ? logit_scale : 1 / sqrt(shape.d),
                       .tiles = ((size_t)shape.n + TILE_ROWS - 1) / TILE_ROWS};
    job.scratch_size =
        (size_t)(TILE_ROWS + CHUNK_KEYS) * (size_t)shape.d + TILE_ROWS * CHUNK_KEYS;
    job.tile_sum = mra_aligned_calloc(heads * job.tiles, sizeof(double));
    job.scratch = mra_aligned_calloc((size_t)threads * job.scratch_size, sizeof(double));
    mra_status status = MRA_OK;
    if (job.tile_sum == NULL || job.scratch == NULL) {
        status = mra_fail(err, MRA_NO_MEMORY, "no memory to measure entropy");
    } else {
        mra_parallel_for(threads, heads * job.tiles, entropy_of_tile, &job);
        average(&job, entropy);
    }
    mra_aligned_free(job.tile_sum);
    mra_aligned_free(job.scratch);
    return status;
}
