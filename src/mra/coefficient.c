// # Approximating the coefficients
//
// The frame offers a box $B^s_{x,y}$ for every block of $s$ queries and block of $s$ keys. The
// constant that represents $A=\exp(P)$ best on it, in the least-squares sense, is the mean
//
// $$\mu^*_{s,x,y}=\frac1{s^2}\sum_{(i,j)\in B^s_{x,y}}\exp(P_{ij}),
//   \qquad P=\frac{QK^{\mathsf T}}{\sqrt d}.$$
//
// Computing it takes the $s^2$ inner products that the approximation was meant to avoid. But
// exchange the mean and the exponential, and one inner product does:
//
// $$\mu_{s,x,y}=\exp\left(\frac1{s^2}\sum_{(i,j)\in B^s_{x,y}}P_{ij}\right)
//   =\exp\bigl(\langle\tilde Q^s_x,\tilde K^s_y\rangle/\sqrt d\bigr),$$
//
// because $P$ is bilinear: the mean of $\langle q_i,k_j\rangle$ over a block of queries and a
// block of keys is the inner product of the mean query $\tilde Q^s_x$ with the mean key
// $\tilde K^s_y$. It is the one place where the softmax kernel itself is used, and the whole
// method hangs on it.
//
// ## What the exchange costs
//
// By Jensen's inequality $\mu\le\mu^*$: the approximation never overestimates a box. How far
// below can it be, if the logits of the box lie in $[a,a+r]$?
//
// **The paper's bound.** For convex $f$ on $[a,b]$ and any distribution on it with mean
// $\lambda'a+\lambda b$, $\lambda'=1-\lambda$, the chord lies above the graph, so
//
// $$\mathbb E f-f(\mathbb E)\;\le\;\lambda' f(a)+\lambda f(b)-f(\lambda' a+\lambda b)
//   \;\le\;f(a)+f(b)-2f\bigl(\tfrac{a+b}2\bigr).$$
//
// The second step says $\lambda f(a)+\lambda'f(b)+f(\lambda'a+\lambda b)\ge 2f(\frac{a+b}2)$:
// the first two terms are at least $f(\lambda a+\lambda'b)$, and the mean of
// $\lambda a+\lambda'b$ and $\lambda'a+\lambda b$ is $\frac{a+b}2$. With $f=\exp$ and $b=a+r$,
//
// $$0\le\mu^*-\mu\le e^a\,(1+e^r-2e^{r/2})\le C_r\,\mu,
//   \qquad C_r=1+e^r-2e^{r/2}=(e^{r/2}-1)^2,$$
//
// as $\mu\ge e^a$. The last form has no cancellation near $r=0$, where $C_r\approx r^2/4$; it
// is the one that is computed.
//
// **The sharp bound** goes beyond the paper. $\mu^*/\mu$ is an arithmetic mean over a geometric
// mean. The first step above, divided by $\mu=e^{a+\lambda r}$, reads
//
// $$\frac{\mu^*}{\mu}\le g(\lambda)=\bigl(1+\lambda(e^r-1)\bigr)e^{-\lambda r},$$
//
// with equality if all logits sit at the two ends. $g'(\lambda)=0$ at
// $1+\lambda(e^r-1)=(e^r-1)/r$, that is at $\lambda^*=\frac1r-\frac1{e^r-1}\in(0,\frac12]$, and
// there
//
// $$\frac{\mu^*}{\mu}\le S(e^r)=\frac{e^r-1}{r}\,\exp\left(\frac r{e^r-1}-1\right)
//   =\frac{(h-1)\,h^{1/(h-1)}}{e\ln h},\qquad h=e^r,$$
//
// Specht's ratio (1960). No smaller constant holds for all boxes with range $r$: put a share
// $\lambda^*$ of the logits at the top. For small $r$ it is $1+r^2/8$, half of what $C_r$
// allows; for large $r$ the gap widens, for $C_r/S\to e\,r$.
#include "mra/coefficient.h"

#include <math.h>
#include <string.h>

#include "mra/dot.h"
#include "mra/layout.h"

double mra_paper_bound(double r)
{
    double e = expm1(r / 2);
    return e * e;
}

// ### Specht's ratio as a number
//
// $\log S=\log\frac{e^r-1}r+\frac r{e^r-1}-1$ has two terms that nearly cancel when $r$ is
// small. Both have Taylor series with Bernoulli numbers,
//
// $$\log\frac{e^r-1}{r}=\frac r2+\sum_{k\ge1}\frac{B_{2k}}{2k\,(2k)!}\,r^{2k},\qquad
//   \frac r{e^r-1}=1-\frac r2+\sum_{k\ge1}\frac{B_{2k}}{(2k)!}\,r^{2k},$$
//
// and in the sum what cancels is gone:
//
// $$\log S(e^r)=\sum_{k\ge1}\left(1+\frac1{2k}\right)\frac{B_{2k}}{(2k)!}\,r^{2k}
//   =\frac{r^2}8-\frac{r^4}{576}+\dotsb$$
//
// It converges for $r<2\pi$; up to $r=1$ ten terms leave less than $10^{-16}$. Beyond $r=1$ the
// closed form is safe; written with $e^{-r}$ it does not overflow: $\log S\approx r-\log r-1$.
double mra_specht_log(double r)
{
    if (r > 1) return r + log1p(-exp(-r)) - log(r) + r / expm1(r) - 1;
    static const double bernoulli[10] = {1.0 / 6,       -1.0 / 30,      1.0 / 42, -1.0 / 30,
                                         5.0 / 66,      -691.0 / 2730,  7.0 / 6,  -3617.0 / 510,
                                         43867.0 / 798, -174611.0 / 330};
    double sum = 0, power = 1; // power: r^(2k) / (2k)!
    for (int k = 1; k <= 10; k++) {
        power *= r * r / ((2.0 * k - 1) * (2.0 * k));
        sum += (1 + 1 / (2.0 * k)) * bernoulli[k - 1] * power;
    }
    return sum;
}

double mra_specht_excess(double r)
{
    return expm1(mra_specht_log(r));
}

// ## The pyramid
//
// Means over $s_{i}$ tokens are means of means over $s_{i+1}$ tokens, so every scale is pooled
// from the next finer one:
//
// $$\tilde Q^{s_i}_x=\sum_{c}\frac{t_c}{t_x}\,\tilde Q^{s_{i+1}}_c,\qquad
//   \tilde V^{s_i}_x=\sum_c\tilde V^{s_{i+1}}_c,\qquad t_x=\sum_c t_c,$$
//
// where $c$ runs over the children of block $x$ and $t$ counts unmasked tokens; for whole
// blocks the weights are $s_{i+1}/s_i$. Values are summed, not averaged, for that is what
// $\hat AV$ asks for: a box contributes $\mu\sum_{j\in y}v_j$ to the product and $\mu\,t_y$ to
// the normaliser. The cost is $3nd\,(1+s_k/s_{k-1}+\dots)$ additions, $O(nd)$, and the memory
// below the finest scale, which is the caller's own $Q$, $K$, $V$, is $O(nd/s_{k-1})$.
//
// A ragged last block and a block with padding are the same thing: a block with fewer tokens.
// The paper's code divides by $t_x+10^{-6}$ and wants $n$ to be a multiple of 32; here a block
// with $t_x=0$ has no mean and is never looked at, and any $n$ will do.
static size_t lay_out(mra_pyramid *pyramid, const mra_options *options, int n, int d,
                      void *memory)
{
    mra_layout layout = {.memory = memory};
    *pyramid = (mra_pyramid){.n = n, .d = d, .scales = options->scales};
    double scale = options->logit_scale;
    pyramid->logit_scale = (float)(scale == 0 ? 1 / sqrt(d) : scale);
    for (int i = 0; i < options->scales; i++) {
        mra_pyramid_level *level = &pyramid->level[i];
        level->scale = options->scale[i];
        level->blocks = (n + level->scale - 1) / level->scale;
        size_t blocks = (size_t)level->blocks, elements = blocks * (size_t)d;
        level->tokens = pyramid->count[i] = mra_layout_take(&layout, blocks, sizeof(int32_t));
        if (i == options->scales - 1) continue;
        level->query = pyramid->mean_query[i] =
            mra_layout_take(&layout, elements, sizeof(float));
        level->key = pyramid->mean_key[i] = mra_layout_take(&layout, elements, sizeof(float));
        level->value = pyramid->sum_value[i] =
            mra_layout_take(&layout, elements, sizeof(float));
    }
    return layout.used;
}

size_t mra_pyramid_bytes(const mra_options *options, int n, int d)
{
    mra_pyramid unused;
    return lay_out(&unused, options, n, d, NULL);
}

void mra_pyramid_place(mra_pyramid *pyramid, const mra_options *options, int n, int d,
                       void *memory)
{
    lay_out(pyramid, options, n, d, memory);
}

// Pools block x of level i from its children in level i + 1.
static void pool_block(mra_pyramid *pyramid, int i, int x)
{
    const mra_pyramid_level *fine = &pyramid->level[i + 1];
    int ratio = pyramid->level[i].scale / fine->scale, d = pyramid->d;
    int first = x * ratio, end = first + ratio < fine->blocks ? first + ratio : fine->blocks;
    size_t width = (size_t)d, at = (size_t)x * width;
    int32_t tokens = 0;
    for (int c = first; c < end; c++) tokens += fine->tokens[c];
    pyramid->count[i][x] = tokens;
    memset(pyramid->mean_query[i] + at, 0, width * sizeof(float));
    memset(pyramid->mean_key[i] + at, 0, width * sizeof(float));
    memset(pyramid->sum_value[i] + at, 0, width * sizeof(float));
    for (int c = first; c < end; c++) {
        if (fine->tokens[c] == 0) continue;
        float share = (float)fine->tokens[c] / (float)tokens;
        size_t from = (size_t)c * width;
        mra_add_scaled(pyramid->mean_query[i] + at, share, fine->query + from, d);
        mra_add_scaled(pyramid->mean_key[i] + at, share, fine->key + from, d);
        mra_add_scaled(pyramid->sum_value[i] + at, 1, fine->value + from, d);
    }
}

void mra_pyramid_build(mra_pyramid *pyramid, const float *q, const float *k, const float *v,
                       const uint8_t *mask)
{
    int finest = pyramid->scales - 1;
    mra_pyramid_level *tokens = &pyramid->level[finest];
    tokens->query = q;
    tokens->key = k;
    tokens->value = v;
    for (int t = 0; t < pyramid->n; t++)
        pyramid->count[finest][t] = mask == NULL || mask[t] != 0;
    for (int i = finest - 1; i >= 0; i--)
        for (int x = 0; x < pyramid->level[i].blocks; x++) pool_block(pyramid, i, x);
}

// ## A box seen from close up
//
// For figures and tests: the coefficient, and what it stands for.
static double dot_of_rows(const float *a, const float *b, int d)
{
    double sum = 0;
    for (int c = 0; c < d; c++) sum += (double)a[c] * (double)b[c];
    return sum;
}

double mra_box_logit(const mra_pyramid *pyramid, int level, int x, int y)
{
    const mra_pyramid_level *pooled = &pyramid->level[level];
    size_t d = (size_t)pyramid->d;
    return (double)pyramid->logit_scale *
           dot_of_rows(pooled->query + (size_t)x * d, pooled->key + (size_t)y * d, pyramid->d);
}

// Calls visit(context, P_ij) for every pair of unmasked tokens of the box.
static void visit_box(const mra_pyramid *pyramid, int level, int x, int y,
                      void (*visit)(mra_box_truth *truth, double logit), mra_box_truth *truth)
{
    const mra_pyramid_level *tokens = &pyramid->level[pyramid->scales - 1];
    int scale = pyramid->level[level].scale, n = pyramid->n, d = pyramid->d;
    int last_row = n - x * scale < scale ? n : (x + 1) * scale;
    int last_column = n - y * scale < scale ? n : (y + 1) * scale;
    for (int i = x * scale; i < last_row; i++) {
        if (tokens->tokens[i] == 0) continue;
        for (int j = y * scale; j < last_column; j++) {
            if (tokens->tokens[j] == 0) continue;
            double dot = dot_of_rows(tokens->query + (size_t)i * (size_t)d,
                                     tokens->key + (size_t)j * (size_t)d, d);
            visit(truth, (double)pyramid->logit_scale * dot);
        }
    }
}

static void note_range(mra_box_truth *truth, double logit)
{
    truth->entries++;
    truth->mean += logit;
    truth->low = fmin(truth->low, logit);
    truth->high = fmax(truth->high, logit);
}

// Exponentials are taken relative to the largest logit of the box, so that none overflows.
static void note_exponential(mra_box_truth *truth, double logit)
{
    double entry = exp(logit - truth->high), gap = entry - exp(truth->mean - truth->high);
    truth->log_mean_exp += entry;
    truth->squared_error += gap * gap;
}

mra_box_truth mra_box_inspect(const mra_pyramid *pyramid, int level, int x, int y)
{
    mra_box_truth truth = {.low = INFINITY, .high = -INFINITY};
    visit_box(pyramid, level, x, y, note_range, &truth);
    if (truth.entries == 0) return (mra_box_truth){0};
    truth.mean /= (double)truth.entries;
    visit_box(pyramid, level, x, y, note_exponential, &truth);
    truth.log_mean_exp = truth.high + log(truth.log_mean_exp / (double)truth.entries);
    return truth;
}
