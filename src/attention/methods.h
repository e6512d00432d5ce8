// The methods' rows, for the table alone, and what the methods share when they read their
// options.
#ifndef MRA_ATTENTION_METHODS_H
#define MRA_ATTENTION_METHODS_H

#include "attention/attention.h"

extern const mra_method mra_method_exact, mra_method_mra2, mra_method_mra2s, mra_method_mra;
extern const mra_method mra_method_longformer, mra_method_bigbird, mra_method_scatterbrain;
extern const mra_method mra_method_performer, mra_method_htransformer1d;
extern const mra_method mra_method_linformer;
extern const mra_method mra_method_nystromformer, mra_method_nystromformer_conv;
extern const mra_method mra_method_soft, mra_method_soft_conv;
extern const mra_method mra_method_yoso, mra_method_yoso_conv, mra_method_reformer;

// Fills value[0 .. method->option_count) from the defaults and then from `count` assignments
// "option=value". MRA_BAD_INPUT names the method, the option, what was given and what was
// expected.
mra_status mra_method_parse(const mra_method *method, const char *const *assignments, int count,
                            mra_option_value *value, mra_error *err);

// Operations of a forward pass of one head (the `operations` of their rows).
double mra_exact_operations(const mra_attention_layer *layer);
double mra_multiresolution_operations(const mra_attention_layer *layer);

#endif
