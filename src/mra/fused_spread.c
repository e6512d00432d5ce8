// ## Ranking by the error that is to be expected
//
// Goes beyond the paper. Both of its rankings look at the mean logit of a box. But what a refinement
// removes is the squared error $\sum(e^{P_{ij}}-\mu)^2$, and a box of modest mean whose logits
// vary hides more of it than a larger one that is flat. How much they vary can be had without
// any entry: with $\delta_i=q_i-\tilde Q_x$, $\epsilon_j=k_j-\tilde K_y$ and the covariances $C_x$,
// $C_y$ of the two blocks, the three parts of the logit's deviation are uncorrelated over the box, and
//
// $$v_{xy}=\operatorname{var}P=\tfrac1d\bigl(\tilde K_y^{\mathsf T}C_x\tilde K_y
//   +\tilde Q_x^{\mathsf T}C_y\tilde Q_x+\operatorname{tr}C_xC_y\bigr).$$
//
// With the diagonals of $C$ alone it is $\langle c_x,\tilde K_y^2+c_y\rangle+
// \langle\tilde Q_x^2,c_y\rangle$ over $d$: one product of width $2d$ for all boxes, $4b^2d$ operations,
// and $O(nd)$ for the $c$.
//
// From the variance to the error: were the $N$ logits of a box drawn from a normal distribution,
// the mean of $e^{\lambda(P-\bar P)}$ would be about
//
// $$m_\lambda=\begin{cases}e^{\lambda^2v/2}&\lambda\sqrt v\le\sqrt{2\ln N},\\[2pt]
//   e^{\lambda\sqrt{2v\ln N}}/N&\text{beyond,}\end{cases}$$
//
// where in the second case the largest of the $N$ decides (Derrida, "Random-energy model",
// Phys. Rev. B 24, 1981). The mean of $(e^{P-\bar P}-1)^2$ is $m_2-2m_1+1$, near $v$ for small $v$ and $m_2$
// for large; $m_2\,v/(1+v)$ joins the two. So boxes compete by
//
// $$2\bigl(\log\mu-\rho_x\bigr)+\log m_2+\log\frac v{1+v}+\log(t_xt_y),\qquad
//   \rho_x=\max_y\,(\log\mu+\log m_1),$$
//
// each relative to the largest *corrected* coefficient of its row of boxes, which stands for the row's
// normaliser. No gradient flows through the choice, so the backward pass stays as it is.

#include "mra/fused.h"

#include <float.h>
#include <math.h>

#include "core/parallel.h"
#include "mra/selection.h"

// log m_l of the text.
static inline float log_mean_exp(float l, float deviation, float edge, float log_count)
{
    const float scaled = l * deviation;
    return scaled <= edge ? 0.5f * scaled * scaled : scaled * edge - log_count;
}

// log x to about 1e-3, for x > 0: the exponent, and a parabola through the ends of the mantissa's
// range. Written out so that a loop of it becomes vector instructions; a ranking needs no more.
static inline float rough_log(float x)
{
    union {
        float number;
        uint32_t bits;
    } value = {x};
    const float exponent = (float)((int32_t)(value.bits >> 23) - 127);
    value.bits = (value.bits & 0x007fffffu) | 0x3f800000u;
    const float m = value.number - 1;
    return 0.69314718f * (exponent + m * (1.3465f - 0.3465f * m));
}

// The two sides of the product for block x: [c, Q~^2] and [K~^2 + c', c'].
static void fill_block(void *context, size_t item, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    const int d = plan->d, s = plan->scale;
    const float *rows[2] = {head->rows[MRA_FUSED_Q][item], head->rows[MRA_FUSED_K][item]};
    const float *mean[2] = {record->query + item * (size_t)d, record->key + item * (size_t)d};
    const uint8_t *present = head->present + item * (size_t)s;
    float *left = head->spread_left + item * 2 * (size_t)d;
    float *right = head->spread_right + item * 2 * (size_t)d;
    const float share = record->tokens[item] > 0 ? 1 / record->weight[item] : 0;
    for (int a = 0; a < 2; a++) {
        float *variance = a == 0 ? left : right + d;
        for (int c = 0; c < d; c++) variance[c] = 0;
        for (int r = 0; r < s; r++) {
            if (!present[r]) continue;
            const float *row = rows[a] + (size_t)r * (size_t)d;
#pragma omp simd
            for (int c = 0; c < d; c++) {
                const float off = row[c] - mean[a][c];
                variance[c] += share * off * off;
            }
        }
    }
#pragma omp simd
    for (int c = 0; c < d; c++) {
        left[d + c] = mean[0][c] * mean[0][c];
        right[c] = mean[1][c] * mean[1][c] + right[d + c];
    }
}

static void score_row(void *context, size_t x, int thread)
{
    (void)thread;
    mra_fused_head *head = context;
    const mra_fused_plan *plan = head->plan;
    const mra_fused_record *record = head->record;
    const int blocks = plan->blocks;
    const float *logit = head->logit + x * (size_t)blocks;
    float *score = head->score + x * (size_t)blocks; // holds the variances
    const float own = record->tokens[x] > 0 ? rough_log(record->weight[x]) : 0;
    float raised = -INFINITY;
#pragma omp simd reduction(max : raised)
    for (int y = 0; y < blocks; y++) {
        const float count = own + rough_log(record->weight[y] + FLT_MIN);
        const float edge = sqrtf(2 * fmaxf(count, 0)), deviation = sqrtf(score[y]);
        const float corrected = logit[y] + log_mean_exp(1, deviation, edge, count);
        const float candidate = record->tokens[y] > 0 ? corrected : -INFINITY;
        raised = candidate > raised ? candidate : raised;
    }
#pragma omp simd
    for (int y = 0; y < blocks; y++) {
        const float variance = score[y];
        const float count = own + rough_log(record->weight[y] + FLT_MIN);
        const float edge = sqrtf(2 * fmaxf(count, 0)), deviation = sqrtf(variance);
        const float change = rough_log(variance / (1 + variance) + FLT_MIN);
        const float value =
            2 * (logit[y] - raised) + log_mean_exp(2, deviation, edge, count) + change + count;
        score[y] = value > -FLT_MAX ? (value < FLT_MAX ? value : FLT_MAX) : -FLT_MAX;
    }
    for (int y = 0; y < blocks; y++)
        if (record->tokens[x] == 0 || record->tokens[y] == 0) score[y] = -INFINITY;
}

void mra_fused_spread(mra_fused_head *head)
{
    const mra_fused_plan *plan = head->plan;
    const int blocks = plan->blocks, width = 2 * plan->d;
    const float scale = plan->logit_scale * plan->logit_scale;
    mra_parallel_for(head->threads, (size_t)blocks, fill_block, head);
    mra_gemm(false, true, blocks, blocks, width, scale, head->spread_left, width,
             head->spread_right, width, 0, head->score, blocks);
    mra_parallel_for(head->threads, (size_t)blocks, score_row, head);
    mra_raise_priors(&plan->options, blocks, head->score);
}
