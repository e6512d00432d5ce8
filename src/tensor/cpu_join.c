// # Joining two parts of an attention row
//
// One part comes as a softmax over its keys, $z^a_i$ with the log of its normaliser $\ell_i$; the
// other as sums over the rest of the keys that are known up to a factor $e^{s_i}$: $u_i$ of values
// and $t_i$ of weights. The row of the whole is
//
// $$z_i = \frac{e^{\ell_i} z^a_i + e^{s_i} u_i}{e^{\ell_i} + e^{s_i} t_i}
//       = \alpha_i z^a_i + \beta_i u_i, \qquad
//   \alpha_i = e^{\ell_i - L_i},\quad \beta_i = e^{s_i - L_i},\quad
//   L_i = \log(e^{\ell_i} + e^{s_i} t_i),$$
//
// in which only differences of logarithms are exponentiated. Its gradients, with $s$ a constant:
//
// $$dz^a_i = \alpha_i dz_i,\quad du_i = \beta_i dz_i,\quad
//   d\ell_i = \alpha_i\, dz_i^\top (z^a_i - z_i),\quad dt_i = -\beta_i\, dz_i^\top z_i .$$
//
// A $t_i$ that comes out of a subtraction can be 0 or negative where it should be small: it is
// raised to a least value if the caller gives one, and has no gradient there.

#include <float.h>
#include <math.h>

#include "tensor/cpu.h"

typedef struct join_context {
    size_t rows;
    int d;
    const mra_join_operands *o;
} join_context;

// alpha and beta of a row; both 0 where it has no keys at all. A sum of weights too small for a
// float, next to others of 1, counts as none.
static void shares(const join_context *c, size_t row, float *alpha, float *beta)
{
    const double lse = (double)c->o->lse[row], scale = (double)c->o->scale[row];
    const double sum =
        (double)fmaxf(c->o->sums[row * (size_t)(c->d + 1) + (size_t)c->d], c->o->least);
    const double other = sum >= FLT_MIN ? scale + log(sum) : -INFINITY;
    const double most = fmax(lse, other);
    *alpha = *beta = 0.0f;
    if (!(most > -INFINITY)) return;
    const double whole = most + log(exp(lse - most) + exp(other - most));
    *alpha = (float)exp(lse - whole);
    if (other > -INFINITY) *beta = (float)exp(scale - whole);
}

static void join_item(void *context, size_t item, int thread)
{
    (void)thread;
    const join_context *c = context;
    const size_t d = (size_t)c->d;
    const mra_range range = mra_range_of(item, mra_rows_per_item(d), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *local = c->o->local + row * d, *sums = c->o->sums + row * (d + 1);
        float *z = c->o->z + row * d, alpha, beta;
        shares(c, row, &alpha, &beta);
        for (size_t i = 0; i < d; i++) z[i] = alpha * local[i] + beta * sums[i];
    }
}

static void join_backward_item(void *context, size_t item, int thread)
{
    (void)thread;
    const join_context *c = context;
    const mra_join_operands *o = c->o;
    const size_t d = (size_t)c->d;
    const mra_range range = mra_range_of(item, mra_rows_per_item(d), c->rows);
    for (size_t row = range.begin; row < range.end; row++) {
        const float *local = o->local + row * d, *z = o->z + row * d, *dz = o->dz + row * d;
        float alpha, beta, along = 0.0f, apart = 0.0f;
        shares(c, row, &alpha, &beta);
        for (size_t i = 0; i < d; i++) {
            along += dz[i] * z[i];
            apart += dz[i] * (local[i] - z[i]);
        }
        for (size_t i = 0; o->dlocal && i < d; i++) o->dlocal[row * d + i] += alpha * dz[i];
        for (size_t i = 0; o->dsums && i < d; i++) o->dsums[row * (d + 1) + i] += beta * dz[i];
        if (o->dsums && !(o->sums[row * (d + 1) + d] < o->least))
            o->dsums[row * (d + 1) + d] -= beta * along;
        if (o->dlse) o->dlse[row] += alpha * apart;
    }
}

mra_status mra_cpu_join(mra_device *device, size_t rows, int d,
                        const mra_join_operands *operands, mra_error *err)
{
    (void)err;
    join_context context = {rows, d, operands};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item((size_t)d)), join_item, &context);
    return MRA_OK;
}

mra_status mra_cpu_join_backward(mra_device *device, size_t rows, int d,
                                 const mra_join_operands *operands, mra_error *err)
{
    (void)err;
    join_context context = {rows, d, operands};
    mra_cpu_loop(device, mra_items(rows, mra_rows_per_item((size_t)d)), join_backward_item,
                 &context);
    return MRA_OK;
}
