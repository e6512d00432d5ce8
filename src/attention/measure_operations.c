// # Counting operations
//
// A rate in floating-point operations a second says how well a processor is used only if the
// numerator counts what the method has to do, not what the exact method would have done.
// Counted here, per head of $n$ tokens and $d$ dimensions, with a multiplication, an addition
// and an exponential as one operation each:
//
// * **exact**: $QK^\top$ and $PV$, $2 \cdot 2 n^2 d$; $n^2$ exponentials and as many additions
// to the row sums.
// * **multi-resolution**, scales $s_0 > \dots > s_k$: at scale $s_i$ there are $N_i$ boxes,
// $N_0 = \lceil n/s_0\rceil^2$
//   and $N_i = m_i (s_{i-1}/s_i)^2$ from the $m_i$ boxes refined; each has a logit, $2d$. Of
//   them $J_i = N_i - m_{i+1}$ stay in $J$ and cost an exponential, an addition and the product
//   with a row of (summed) values, $2d$; a sparse variant keeps $J_k$ alone. Pooling adds the
//   rows of $Q$, $K$, $V$ once per scale, and the results come back the same way: $4 d\,
//   n/s_{i+1}$ at the step from $s_{i+1}$ to $s_i$.
//
// A last block that is not full counts as full. Choosing the boxes costs comparisons, no
// arithmetic.

#include "attention/measure.h"
#include "attention/methods.h"

#include <math.h>
#include <string.h>

const mra_option_value *mra_layer_option(const mra_attention_layer *layer, const char *name)
{
    for (int i = 0; i < layer->method->option_count; i++)
        if (strcmp(layer->method->options[i].name, name) == 0) return &layer->option[i];
    return NULL;
}

static double exact_operations(double n, double d)
{
    return 4 * n * n * d + 2 * n * n;
}

// Scales and budgets of a layer, from its options: scale[0 .. *count), blocks[1 .. *count).
static void read_scales(const mra_attention_layer *layer, double scale[MRA_MAX_SCALES],
                        double blocks[MRA_MAX_SCALES], int *count)
{
    const mra_option_value *scales = mra_layer_option(layer, "scales");
    const mra_option_value *budget = mra_layer_option(layer, "blocks");
    mra_options usual = mra_options_mra2(1);
    *count = scales != NULL ? scales->count : usual.scales;
    for (int i = 0; i < *count; i++)
        scale[i] = scales != NULL ? scales->list[i] : usual.scale[i];
    for (int i = 1; i < *count; i++) {
        bool listed = budget != NULL && i - 1 < budget->count;
        blocks[i] = listed ? budget->list[i - 1] : budget != NULL ? budget->number : 0;
    }
}

static double multiresolution_operations(const mra_attention_layer *layer, bool sparse)
{
    double scale[MRA_MAX_SCALES], blocks[MRA_MAX_SCALES], boxes[MRA_MAX_SCALES];
    double refined[MRA_MAX_SCALES + 1] = {0};
    double n = layer->shape.n, d = layer->shape.d, sum = 0;
    int count;
    read_scales(layer, scale, blocks, &count);
    double rows = ceil(n / scale[0]);
    boxes[0] = rows * rows;
    for (int i = 1; i < count; i++) {
        double ratio = scale[i - 1] / scale[i];
        refined[i] = fmin(round(blocks[i] * rows), boxes[i - 1]);
        boxes[i] = fmin(refined[i] * ratio * ratio, pow(ceil(n / scale[i]), 2));
        sum += 4 * d * ceil(n / scale[i]);
    }
    for (int i = 0; i < count; i++) {
        bool kept = i == count - 1 || !sparse;
        sum += 2 * d * boxes[i];
        if (kept) sum += (2 * d + 2) * (boxes[i] - (i + 1 < count ? refined[i + 1] : 0));
    }
    return sum;
}

double mra_exact_operations(const mra_attention_layer *layer)
{
    return exact_operations(layer->shape.n, layer->shape.d);
}

double mra_multiresolution_operations(const mra_attention_layer *layer)
{
    const mra_option_value *sparse = mra_layer_option(layer, "sparse");
    return multiresolution_operations(layer, layer->method == &mra_method_mra2s ||
                                                 (sparse && sparse->number != 0));
}

double mra_measure_operations(const mra_attention_layer *layer)
{
    if (!layer->method->operations) return NAN;
    return (double)layer->shape.batch * layer->shape.heads * layer->method->operations(layer);
}
