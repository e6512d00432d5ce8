// The `-conv` twins' convolution.

#include "attention/convolution.h"

#include <math.h>

#include "attention/measure.h"
#include "attention/plain.h"

mra_status mra_convolution_check(const mra_attention_layer *base, mra_error *err)
{
    const mra_option_value *taps = mra_layer_option(base, "conv");
    if (!taps || (int)taps->number % 2 == 1) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT, "%s: conv=%g: expected an odd number of taps",
                    base->method->name, taps->number);
}

mra_method_parameter mra_convolution_parameter(const mra_attention_layer *base)
{
    const int taps = (int)mra_layer_option(base, "conv")->number;
    return (mra_method_parameter){.name = "filter",
                                  .rank = 2,
                                  .shape = {base->shape.heads, taps},
                                  .deviation = (float)(1 / sqrt(3.0 * taps))};
}

mra_tensor *mra_add_convolution(mra_tape *tape, mra_tensor *z, mra_tensor *v,
                                mra_tensor *filter, const uint8_t *mask)
{
    if (filter)
        z = mra_add(tape, z,
                    mra_convolve_sequence(tape, mra_mask_heads(tape, v, mask), filter));
    return mra_mask_heads(tape, z, mask);
}

double mra_convolution_operations(const mra_attention_layer *layer)
{
    const mra_option_value *taps = mra_layer_option(layer, "conv");
    return taps ? 2.0 * layer->shape.n * layer->shape.d * taps->number : 0;
}
