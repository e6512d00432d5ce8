// The depth-wise convolution that the `-conv` twins of several methods add to their output: what is local passes by
// the approximation.
#ifndef MRA_ATTENTION_CONVOLUTION_H
#define MRA_ATTENTION_CONVOLUTION_H

#include "attention/attention.h"

// The option "conv" of such a twin, for its list.
#define MRA_CONVOLUTION_OPTION                               \
    {                                                        \
        "conv", MRA_OPTION_INT, "33", 1, 1023, NULL,         \
            "taps of the convolution over the sequence, odd" \
    }

// MRA_BAD_INPUT for an even number of taps; methods without the option pass.
mra_status mra_convolution_check(const mra_attention_layer *base, mra_error *err);
// Its learned parameter "filter" [heads, taps]. It begins as the published code's does in mean and variance:
// 0 and 1 / (3 taps).
mra_method_parameter mra_convolution_parameter(const mra_attention_layer *base);
// z + filter * v, padding of v taken as 0, with rows of padding set to 0. `filter` NULL: no convolution.
mra_tensor *mra_add_convolution(mra_tape *tape, mra_tensor *z, mra_tensor *v,
                                mra_tensor *filter, const uint8_t *mask);
// Operations of one head; 0 for methods without the option.
double mra_convolution_operations(const mra_attention_layer *layer);

#endif
