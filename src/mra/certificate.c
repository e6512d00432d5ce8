// # Certificates
//
// "The error is low" is a statement about the attention that somebody measured. This chapter
// makes one about the attention at hand, without ever computing the exact matrix: for every row
// a number that $\lVert\hat Z_i-Z_i\rVert$ does not exceed. It goes beyond the paper, whose
// bounds are for a single coefficient whose range of logits is known.
//
// ## How far the logits of a box can be from their mean
//
// With $\delta_i=q_i-\tilde Q_x$ and $\epsilon_j=k_j-\tilde K_y$ the logit of an entry is
//
// $$\sqrt d\,(P_{ij}-\log\mu)=\langle\delta_i,\tilde K_y\rangle
//   +\langle\tilde Q_x+\delta_i,\epsilon_j\rangle .$$
//
// The first term is how far the *mean of row* $i$ of the box is from the mean of the box, the
// second how far the entry is from the mean of its row ($\sum_j\epsilon_j=0$). Cauchy and
// Schwarz bound both by radii, which cost $O(nd)$ once for all boxes:
// $\rho_x=\max_i\lVert\delta_i\rVert$, $\kappa_y=\max_j\lVert\epsilon_j\rVert$,
//
// $$a_{xy}=\rho_x\lVert\tilde K_y\rVert/\sqrt d,\qquad
//   b_{xy}=(\lVert\tilde Q_x\rVert+\rho_x)\,\kappa_y/\sqrt d,\qquad
//   |P_{ij}-\log\mu|\le h_{xy}=a_{xy}+b_{xy}.$$
//
// Both parts are kept, because what matters for an output row is the *mass* that it gives to
// the box. The mean of $e^{P_{ij}}$ over $j$ is an arithmetic mean whose geometric mean is
// $e^{\text{row mean}}$; by Specht's ratio (the chapter on coefficients) with a range of $2b$,
//
// $$r_{iy}=\frac{\text{true mass}}{\text{mass in }\hat A}\in
//   \bigl[e^{-a},\;e^{a}\,S(e^{2b})\bigr],$$
//
// and $S(e^{2b})\approx1+b^2/2$ where $e^{b}\approx1+b$: the spread inside a row counts in
// second order only.
//
// ## From boxes to an output row
//
// Let $\hat p_{ij}=\hat A_{ij}/\hat D_i$ and $A_{ij}=\hat A_{ij}e^{\varepsilon_{ij}}$. As
// $\hat Z_i$ is the mean of the values under $\hat p$,
// $\sum_j\hat p_{ij}(v_j-\hat Z_i)=0$, and so
//
// $$Z_i-\hat Z_i=\frac1{R_i}\sum_j\hat p_{ij}\,(e^{\varepsilon_{ij}}-1)\,(v_j-\hat Z_i),\qquad
//   R_i=\sum_j\hat p_{ij}e^{\varepsilon_{ij}} .$$
//
// Refined entries have $\varepsilon=0$ and drop out: *only what was left coarse contributes*,
// with the weight it has, by how far its logits spread, and by how far its values are from the
// output. In a box, split $v_j$ into the block's mean $\bar V_y$ and the rest, whose root mean
// square is $\sigma_y$. The rest is only felt through the deviation of $e^{\varepsilon_{ij}}$
// from its mean over $j$, whose root mean square is at most half the range, $e^{a}\sinh b$
// (Popoviciu), and Cauchy and Schwarz multiply the two:
//
// $$\lVert Z_i-\hat Z_i\rVert\le\frac{\sum_y\hat A_{xy}t_y\bigl[
//     (e^{a}S(e^{2b})-1)\,\lVert\bar V_y-\hat Z_i\rVert+e^{a}\sinh(b)\,\sigma_y\bigr]}
//   {\hat D_i-\sum_y\hat A_{xy}t_y\,(1-e^{-a})} .$$
//
// $\lVert\bar V_y-\hat Z_i\rVert\le\lVert\bar V_y-\bar Z_x\rVert+\lVert\hat Z_i-\bar Z_x\rVert$
// with $\bar Z_x$ the mean of the block's outputs makes everything but the last term the same
// for all rows of a block: $O(nd+(n/s)^2d)$ in all. Where the formula says nothing ($h$ large)
// both outputs are still means of the values; with $c$ the mean of all values,
// $\max_j\lVert v_j-c\rVert+\lVert\hat Z_i-c\rVert$ bounds their distance, and such rows are
// counted as *trivial*.
//
// MRA-2-s leaves the coarse boxes out: there the mass that is missing is at most
// $\mu t\,e^{a}S(e^{2b})$, and that factor takes the place of $e^aS-1$.
//
// ## The matrix
//
// On a box the mean of $\varepsilon$ is 0 and $|\varepsilon|\le h$. $(e^\varepsilon-1)^2$ is
// convex for $\varepsilon\ge-\ln2$; below, its tangent lies above it. That convex majorant
// $\varphi$ is at most its chord, so
// $\sum(A_{ij}-\mu)^2\le t_xt_y\,\mu^2\,\frac12(\varphi(h)+\varphi(-h))$.
//
// ## Rounding
//
// What is certified is the float32 result against exact attention in real numbers of the same
// float32 inputs. With $u=2^{-24}$ an inner product of $d$ products is off by at most
// $d\,u\,\lVert q\rVert\lVert k\rVert$, a mean over $s$ rows by $s\,u$ of the largest norm;
// scaling and storing add a few more. Two ways of computing (this file's logits, those of
// attention) double it. So the logarithms of coefficients and of refined entries are known to
// within $(2d+2s+32)\,u$ times the norms over $\sqrt d$: the *slack*, which is added to $a$ and
// charged to refined entries and weights too. A sum of $m$ weights, each $e^{-D}$ with an error
// of $u\,(D+2)$, and of $m$ weighted values, themselves sums of $s$, is off by at most
// $(m+s+128)\,u$ of itself ($\sum e^{-D}D/\sum e^{-D}$ is at most the logarithm of the number of
// terms). Both are worst cases. The certificate's own arithmetic is float64, rounded up by
// $10^{-9}$ of itself and, where means over $n$ values nearly cancel, by $(n+64)\,2^{-52}$ of
// those values.

#include "mra/certificate.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/arena.h"
#include "mra/layout.h"

static const double unit = 0x1p-24, widen = 1 + 1e-9;

// ## Radii
//
// Of the blocks of one level: norms of the pooled queries and keys, radii, mean and spread of
// values, mean output.
typedef struct level_radii {
    double *query_norm, *query_radius, *key_norm, *key_radius; // [blocks]
    double *value_mean, *output_mean;                          // [blocks, d]
    double *value_spread;                                      // [blocks]: sigma
    // Sums over the boxes of a row of boxes, in units of exp(reference): mass from below and
    // above, mass that is left for certain, and the two parts of the numerator.
    double *reference, *low, *high, *least, *fixed, *moving; // [blocks]
} level_radii;

typedef struct certifier {
    const mra_cover *cover;
    const float *z;
    int n, d, finest;
    level_radii level[MRA_MAX_SCALES];
    double *centre;                                    // [d]: mean of all values
    double largest_key, largest_value, largest_offset; // norms; the last one of v_j - centre
    void *memory;
} certifier;

static const mra_pyramid_level *token_level(const certifier *c)
{
    return &c->cover->pyramid->level[c->finest];
}

static bool is_token(const certifier *c, int row)
{
    return token_level(c)->tokens[row] > 0;
}

static double norm(const float *x, int d)
{
    double sum = 0;
    for (int e = 0; e < d; e++) sum += (double)x[e] * x[e];
    return sqrt(sum);
}

static double squared_distance(const float *x, const double *y, int d)
{
    double sum = 0;
    for (int e = 0; e < d; e++) sum += (x[e] - y[e]) * (x[e] - y[e]);
    return sum;
}

static double distance_of_floats(const float *x, const float *y, int d)
{
    double sum = 0;
    for (int e = 0; e < d; e++) sum += ((double)x[e] - y[e]) * ((double)x[e] - y[e]);
    return sqrt(sum);
}

static double distance_of_means(const double *x, const double *y, int d)
{
    double sum = 0;
    for (int e = 0; e < d; e++) sum += (x[e] - y[e]) * (x[e] - y[e]);
    return sqrt(sum);
}

static void lay_out(certifier *c, mra_layout *layout)
{
    const size_t d = (size_t)c->d;
    c->centre = mra_layout_take(layout, d, sizeof(double));
    for (int i = 0; i < c->finest; i++) {
        level_radii *level = &c->level[i];
        const size_t blocks = (size_t)c->cover->pyramid->level[i].blocks;
        double **array[] = {&level->query_norm, &level->query_radius, &level->key_norm,
                            &level->key_radius, &level->value_spread, &level->reference,
                            &level->low,        &level->high,         &level->least,
                            &level->fixed,      &level->moving};
        for (size_t a = 0; a < sizeof array / sizeof array[0]; a++)
            *array[a] = mra_layout_take(layout, blocks, sizeof(double));
        level->value_mean = mra_layout_take(layout, blocks * d, sizeof(double));
        level->output_mean = mra_layout_take(layout, blocks * d, sizeof(double));
    }
}

static int end_of_block(const certifier *c, int first, int scale)
{
    return c->n - first < scale ? c->n : first + scale;
}

// The means of the values and outputs of block x of level i, and the spread of its values.
static void measure_values(certifier *c, int i, int x)
{
    const mra_pyramid_level *pooled = &c->cover->pyramid->level[i];
    const float *v = token_level(c)->value;
    level_radii *level = &c->level[i];
    const int d = c->d, first = x * pooled->scale, end = end_of_block(c, first, pooled->scale);
    double *value = level->value_mean + (size_t)x * (size_t)d;
    double *output = level->output_mean + (size_t)x * (size_t)d;
    for (int row = first; row < end; row++)
        for (int e = 0; e < d && is_token(c, row); e++) {
            value[e] += (double)v[(size_t)row * d + e] / pooled->tokens[x];
            output[e] += (double)c->z[(size_t)row * d + e] / pooled->tokens[x];
        }
    double sum = 0;
    for (int row = first; row < end; row++)
        if (is_token(c, row)) sum += squared_distance(v + (size_t)row * d, value, d);
    level->value_spread[x] = sqrt(sum / pooled->tokens[x]);
}

static void measure_block(certifier *c, int i, int x)
{
    const mra_pyramid_level *pooled = &c->cover->pyramid->level[i], *tokens = token_level(c);
    level_radii *level = &c->level[i];
    const int d = c->d, first = x * pooled->scale, end = end_of_block(c, first, pooled->scale);
    const float *query = pooled->query + (size_t)x * d, *key = pooled->key + (size_t)x * d;
    level->query_norm[x] = norm(query, d);
    level->key_norm[x] = norm(key, d);
    for (int row = first; row < end; row++) {
        if (!is_token(c, row)) continue;
        const double q = distance_of_floats(tokens->query + (size_t)row * d, query, d);
        const double k = distance_of_floats(tokens->key + (size_t)row * d, key, d);
        level->query_radius[x] = fmax(level->query_radius[x], q);
        level->key_radius[x] = fmax(level->key_radius[x], k);
    }
    measure_values(c, i, x);
}

static void measure_tokens(certifier *c)
{
    const mra_pyramid_level *tokens = token_level(c);
    const size_t d = (size_t)c->d;
    double count = 0;
    for (int row = 0; row < c->n; row++) count += is_token(c, row);
    for (int row = 0; row < c->n; row++)
        for (size_t e = 0; e < d && is_token(c, row); e++)
            c->centre[e] += tokens->value[(size_t)row * d + e] / count;
    for (int row = 0; row < c->n; row++) {
        if (!is_token(c, row)) continue;
        const float *value = tokens->value + (size_t)row * d;
        const double offset = sqrt(squared_distance(value, c->centre, c->d));
        c->largest_key = fmax(c->largest_key, norm(tokens->key + (size_t)row * d, c->d));
        c->largest_value = fmax(c->largest_value, norm(value, c->d));
        c->largest_offset = fmax(c->largest_offset, offset);
    }
}

// The slack of a logit from its norms; s the tokens of a block.
static double logit_slack(const mra_pyramid *pyramid, int s, double query, double key)
{
    const double scale = fabs((double)pyramid->logit_scale);
    return scale * (2.0 * pyramid->d + 2.0 * s + 32) * unit * query * key;
}

mra_box_radius mra_box_radius_of(const mra_pyramid *pyramid, int level, double query_norm,
                                 double query_radius, double key_norm, double key_radius)
{
    const double scale = fabs((double)pyramid->logit_scale);
    const double slack = logit_slack(pyramid, pyramid->level[level].scale,
                                     query_norm + query_radius, key_norm + key_radius);
    return (mra_box_radius){.shift = (scale * query_radius * key_norm + slack) * widen,
                            .spread = scale * (query_norm + query_radius) * key_radius * widen,
                            .slack = slack};
}

static mra_box_radius radius_of_box(const certifier *c, int i, int x, int y)
{
    const level_radii *level = &c->level[i];
    return mra_box_radius_of(c->cover->pyramid, i, level->query_norm[x], level->query_radius[x],
                             level->key_norm[y], level->key_radius[y]);
}

// ## Rows of boxes
//
// The two ways in which a box can be wrong, as factors of its mass: by how much the mass itself,
// and by how much its entries differ among themselves. With the logarithm of the weight, because
// a weight too small for a number may change by a factor too large for one.
static double mass_change(const mra_box_radius *radius, double log_weight, bool sparse)
{
    const double log_most = radius->shift + mra_specht_log(2 * radius->spread);
    if (sparse || log_most > 1) return exp(log_weight + log_most);
    return exp(log_weight) * expm1(log_most);
}

static double inner_change(const mra_box_radius *radius, double log_weight)
{
    if (radius->spread < 1) return exp(log_weight + radius->shift) * sinh(radius->spread);
    return exp(log_weight + radius->shift + radius->spread) / 2;
}

// Adds box b of row x to the sums of that row: `fixed` holds the numerator with the distance
// from $\bar V_y$ to $\bar Z_x$, `moving` what is multiplied by the distance of a row's output
// from $\bar Z_x$. What overflows makes the rows trivial.
static void add_box(certifier *c, int i, int x, size_t b)
{
    const mra_selection_level *boxes = &c->cover->selection->level[i];
    level_radii *level = &c->level[i];
    const int y = boxes->column[b];
    const size_t d = (size_t)c->d;
    const mra_box_radius radius = radius_of_box(c, i, x, y);
    const double log_weight =
        boxes->logit[b] - level->reference[x] + log(c->cover->pyramid->level[i].tokens[y]);
    const double high = log_weight + radius.slack;
    const double apart = distance_of_means(level->value_mean + (size_t)y * d,
                                           level->output_mean + (size_t)x * d, c->d);
    const double changed = mass_change(&radius, high, c->cover->sparse);
    level->low[x] += exp(log_weight - radius.slack);
    level->high[x] += exp(high);
    level->least[x] += exp(log_weight - radius.slack - radius.shift);
    level->moving[x] += changed;
    const double part = changed * apart + inner_change(&radius, high) * level->value_spread[y];
    level->fixed[x] += isnan(part) ? INFINITY : part;
}

static void sum_row_of_boxes(certifier *c, int i, int x)
{
    const mra_selection_level *boxes = &c->cover->selection->level[i];
    level_radii *level = &c->level[i];
    level->reference[x] = -INFINITY;
    for (size_t b = boxes->row_start[x]; b < boxes->row_start[x + 1]; b++)
        level->reference[x] = fmax(level->reference[x], boxes->logit[b]);
    for (size_t b = boxes->row_start[x]; b < boxes->row_start[x + 1]; b++) add_box(c, i, x, b);
}

// ## A row of the output
//
// What one row sees at all coarse scales, in units of exp(reference).
typedef struct row_sums {
    double reference, low, high, least, fixed, moving;
    double boxes; // terms in its sums
} row_sums;

static row_sums sum_scales(const certifier *c, int row)
{
    const mra_cover *cover = c->cover;
    row_sums sums = {.reference = cover->normaliser[row] > 0 ? cover->row_max[row] : -INFINITY,
                     .boxes = cover->refined[row]};
    for (int i = 0; i < c->finest; i++) {
        const int x = row / cover->pyramid->level[i].scale;
        sums.reference = fmax(sums.reference, c->level[i].reference[x]);
    }
    for (int i = 0; i < c->finest; i++) {
        const level_radii *level = &c->level[i];
        const size_t x = (size_t)(row / cover->pyramid->level[i].scale);
        const size_t *start = cover->selection->level[i].row_start;
        if (level->reference[x] == -INFINITY) continue; // no boxes
        const double below = level->reference[x] - sums.reference, factor = exp(below);
        const double apart = sqrt(squared_distance(
            c->z + (size_t)row * (size_t)c->d, level->output_mean + x * (size_t)c->d, c->d));
        const double moved = apart > 0 ? level->moving[x] * apart : 0;
        // By their logarithms: an infinite sum stays infinite, whatever the factor.
        sums.fixed += exp(below + log(level->fixed[x] + moved));
        sums.moving += exp(below + log(level->moving[x]));
        sums.low += factor * level->low[x];
        sums.high += factor * level->high[x];
        sums.least += factor * level->least[x];
        sums.boxes += (double)(start[x + 1] - start[x]);
    }
    return sums;
}

// The rounding of sums over the boxes of a row, relative to their size.
static double sum_rounding(const certifier *c, double boxes)
{
    return 2 * (boxes + c->cover->pyramid->level[0].scale + 128) * unit;
}

// The mass of the refined entries, from below and above, in units of exp(sums->reference).
static void refined_mass(const certifier *c, int row, const row_sums *sums, double *low,
                         double *high)
{
    const mra_cover *cover = c->cover;
    const double rounding = sum_rounding(c, sums->boxes);
    double whole = 0;
    if (cover->normaliser[row] > 0)
        whole = exp(cover->row_max[row] - sums->reference) * cover->normaliser[row];
    *low = whole * (1 - rounding) - (cover->sparse ? 0 : sums->high);
    *high = whole * (1 + rounding) - (cover->sparse ? 0 : sums->low);
    if (!(*low > 0)) *low = 0;
    if (!(*high > 0) || cover->refined[row] == 0) *high = 0;
    if (cover->refined[row] == 0) *low = 0;
}

static double slack_of_row(const certifier *c, int row)
{
    const float *query = token_level(c)->query + (size_t)row * (size_t)c->d;
    return logit_slack(c->cover->pyramid, 1, norm(query, c->d), c->largest_key);
}

static double bound_row(const certifier *c, int row, bool *trivial)
{
    const float *z = c->z + (size_t)row * (size_t)c->d;
    const row_sums sums = sum_scales(c, row);
    double low, high;
    refined_mass(c, row, &sums, &low, &high);
    const double rounding = sum_rounding(c, sums.boxes), slack = slack_of_row(c, row);
    const double offset = sqrt(squared_distance(z, c->centre, c->d));
    const double reach = c->largest_value + norm(z, c->d);
    // From z to the farthest value; how far z is from Z-hat by rounding; what float64 adds.
    const double own = (c->n + 64) * 0x1p-52 * reach;
    const double farthest = fmin(reach, c->largest_offset + offset) * widen + own;
    const double stray = rounding * reach;
    const double denominator = low * exp(-slack) + sums.least;
    const double numerator =
        sums.fixed + sums.moving * (stray + own) + high * expm1(slack) * (farthest + stray);
    double bound = denominator > 0 ? numerator / denominator : INFINITY;
    bound = (bound + stray) * widen + own;
    *trivial = !(bound < farthest); // NaN too
    return *trivial ? farthest : bound;
}

// ## The matrix
//
// $\varphi$ of the text.
static double majorant(double epsilon)
{
    const double ln2 = 0.693147180559945309417;
    return epsilon >= -ln2 ? expm1(epsilon) * expm1(epsilon) : 0.25 - (epsilon + ln2) / 2;
}

// The logarithm of a bound on the mean over a box of ((A_ij - A-hat_ij) / mu)^2.
static double log_matrix_share(const certifier *c, int i, int x, int y)
{
    const mra_box_radius radius = radius_of_box(c, i, x, y);
    const double h = radius.shift + radius.spread + radius.slack;
    if (c->cover->sparse || h > 100) return 2 * h; // sparse: A_ij itself is missing
    if (h == 0) return -INFINITY;
    // The chord at 0, where the mean is but for the slack.
    const double tilt = fmin(h, radius.slack) / (2 * h) * majorant(h);
    return log((majorant(h) + majorant(-h)) / 2 + tilt);
}

static void add_boxes(const certifier *c, double shift, double *error, double *size)
{
    for (int i = 0; i < c->finest; i++) {
        const mra_selection_level *boxes = &c->cover->selection->level[i];
        const int32_t *tokens = c->cover->pyramid->level[i].tokens;
        for (int x = 0; x < boxes->blocks; x++)
            for (size_t b = boxes->row_start[x]; b < boxes->row_start[x + 1]; b++) {
                const int y = boxes->column[b];
                const double log_square =
                    log((double)tokens[x] * tokens[y]) + 2 * (boxes->logit[b] - shift);
                if (!c->cover->sparse) *size += exp(log_square);
                *error += exp(log_square + log_matrix_share(c, i, x, y));
            }
    }
}

// Of refined entries only the sums of their rows are known: the square root of their sum of
// squares is at most the sum, and at least the sum over the square root of their number.
static void bound_matrix(const certifier *c, mra_certificate *certificate)
{
    double error = 0, size = 0;
    add_boxes(c, certificate->shift, &error, &size);
    for (int row = 0; row < c->n; row++) {
        if (!is_token(c, row) || c->cover->refined[row] == 0) continue;
        const row_sums sums = sum_scales(c, row);
        double low, high;
        refined_mass(c, row, &sums, &low, &high);
        const double factor = exp(sums.reference - certificate->shift);
        const double rounded = factor * high * expm1(slack_of_row(c, row));
        error += rounded * rounded;
        size += factor * low * factor * low / c->cover->refined[row];
    }
    certificate->matrix_norm = sqrt(size) / widen;
    certificate->matrix = sqrt(error) * widen;
}

static double largest_logit(const certifier *c)
{
    double largest = -INFINITY;
    for (int row = 0; row < c->n; row++)
        if (c->cover->normaliser[row] > 0) largest = fmax(largest, c->cover->row_max[row]);
    for (int i = 0; i < c->finest; i++)
        for (size_t b = 0; b < c->cover->selection->level[i].count; b++)
            largest = fmax(largest, c->cover->selection->level[i].logit[b]);
    return largest;
}

// ## All rows
//
// $\lVert Z\rVert\ge\lVert\hat Z\rVert-\lVert\hat Z-Z\rVert$ turns the bound into a relative
// one.
static mra_status prepare(certifier *c, const mra_cover *cover, const float *z, mra_error *err)
{
    *c = (certifier){.cover = cover,
                     .z = z,
                     .n = cover->pyramid->n,
                     .d = cover->pyramid->d,
                     .finest = cover->pyramid->scales - 1};
    mra_layout count = {0};
    lay_out(c, &count);
    c->memory = mra_aligned_calloc(count.used, 1);
    if (!c->memory)
        return mra_fail(err, MRA_NO_MEMORY, "certificate: no memory for %zu bytes", count.used);
    mra_layout layout = {.memory = c->memory};
    lay_out(c, &layout);
    measure_tokens(c);
    for (int i = 0; i < c->finest; i++)
        for (int x = 0; x < cover->pyramid->level[i].blocks; x++)
            if (cover->pyramid->level[i].tokens[x] > 0) measure_block(c, i, x);
    for (int i = 0; i < c->finest; i++)
        for (int x = 0; x < cover->pyramid->level[i].blocks; x++) sum_row_of_boxes(c, i, x);
    return MRA_OK;
}

mra_status mra_certify(const mra_cover *cover, const float *z, double *row,
                       mra_certificate *certificate, mra_error *err)
{
    certifier c;
    mra_status status = prepare(&c, cover, z, err);
    if (status != MRA_OK) return status;
    *certificate = (mra_certificate){.shift = largest_logit(&c)};
    double error = 0, size = 0;
    for (int i = 0; i < c.n; i++) {
        bool trivial = false;
        row[i] = is_token(&c, i) ? bound_row(&c, i, &trivial) : 0;
        certificate->trivial += trivial;
        error += row[i] * row[i];
        const double length = norm(z + (size_t)i * (size_t)c.d, c.d);
        size += length * length;
    }
    certificate->output = sqrt(error) * widen;
    certificate->output_norm = sqrt(size);
    const double left = certificate->output_norm - certificate->output;
    certificate->relative = error == 0 ? 0 : left > 0 ? certificate->output / left : INFINITY;
    bound_matrix(&c, certificate);
    mra_aligned_free(c.memory);
    return MRA_OK;
}

// The cover of a head that went through the general path. `refined` receives [n].
static mra_cover cover_of(const mra_apply *apply, int32_t *refined)
{
    const int finest = apply->options.scales - 1;
    const size_t *start = apply->selection.level[finest].row_start;
    for (int i = 0; i < apply->n; i++) refined[i] = (int32_t)(start[i + 1] - start[i]);
    return (mra_cover){.pyramid = &apply->pyramid,
                       .selection = &apply->selection,
                       .sparse = apply->options.sparse,
                       .row_max = apply->largest[finest],
                       .normaliser = apply->normaliser[finest],
                       .refined = refined};
}

mra_status mra_certify_apply(const mra_apply *apply, const float *z, double *row,
                             mra_certificate *certificate, mra_error *err)
{
    int32_t *refined = mra_aligned_calloc((size_t)apply->n, sizeof *refined);
    if (!refined)
        return mra_fail(err, MRA_NO_MEMORY, "certificate: no memory for %d rows", apply->n);
    const mra_cover cover = cover_of(apply, refined);
    mra_status status = mra_certify(&cover, z, row, certificate, err);
    mra_aligned_free(refined);
    return status;
}

// ## Which boxes to refine first
//
// The terms of the numerator, box by box, say what each costs the certificate; as logarithms,
// for a box with a wide range of logits has a term that no number holds.
static void score_row(const certifier *c, const mra_apply *apply, int x, float *score)
{
    const mra_selection_level *boxes = &apply->selection.level[0];
    const mra_pyramid_level *pooled = &apply->pyramid.level[0];
    const level_radii *level = &c->level[0];
    const size_t d = (size_t)c->d;
    int row = x * pooled->scale; // with nothing refined, all rows of a block are alike
    while (row + 1 < c->n && !is_token(c, row)) row++;
    for (size_t b = boxes->row_start[x]; b < boxes->row_start[x + 1]; b++) {
        const int y = boxes->column[b];
        const mra_box_radius radius = radius_of_box(c, 0, x, y);
        const double log_most = radius.shift + mra_specht_log(2 * radius.spread);
        const double log_change = log_most > 1 ? log_most : log(expm1(log_most) + DBL_MIN);
        const double felt = distance_of_means(level->value_mean + (size_t)y * d,
                                              level->output_mean + (size_t)x * d, c->d) +
                            level->value_spread[y];
        score[b] = (float)(boxes->logit[b] - apply->row_lse[row] + log(pooled->tokens[y]) +
                           0.5 * log(pooled->tokens[x]) + log_change + log(felt + DBL_MIN));
    }
}

mra_status mra_certificate_scores(const mra_apply *apply, const float *z, float *score,
                                  mra_error *err)
{
    certifier c = {0};
    int32_t *refined = mra_aligned_calloc((size_t)apply->n, sizeof *refined);
    if (!refined)
        return mra_fail(err, MRA_NO_MEMORY, "certificate: no memory for %d rows", apply->n);
    const mra_cover cover = cover_of(apply, refined);
    mra_status status = prepare(&c, &cover, z, err);
    for (int x = 0; status == MRA_OK && x < apply->selection.level[0].blocks; x++)
        score_row(&c, apply, x, score);
    mra_aligned_free(c.memory);
    mra_aligned_free(refined);
    return status;
}
