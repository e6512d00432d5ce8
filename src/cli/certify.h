// Certificates on the command line: the options --certify and --tolerance of `mra attend`.
#ifndef MRA_CLI_CERTIFY_H
#define MRA_CLI_CERTIFY_H

#include "cli/arrays.h"
#include "cli/cli.h"
#include "cli/weights.h"

// What was asked for and what came out.
typedef struct mra_cli_certified {
    double tolerance;             // 0: budgets as the method's options say
    float *bound;                 // [batch, heads, n]: rounded up
    mra_certificate *certificate; // [batch, heads]
    double *blocks; // [batch, heads]: boxes refined per row of boxes; only with a tolerance
} mra_cli_certified;

// Runs `method` on what was read, z and bounds; MRA_BAD_INPUT for a method that has no
// certificate and, with a tolerance, for any but mra2 and for options given with it. Free
// *certified with mra_cli_certified_free, also after a failure.
mra_status mra_cli_run_certified(const mra_cli_common *common, const char *method,
                                 const mra_cli_words *set, mra_cli_weights *weights,
                                 const mra_cli_arrays *arrays, float *z,
                                 mra_cli_certified *certified, mra_error *err);
// One line for each head on stdout, with tabs.
void mra_cli_print_certified(const mra_cli_certified *certified, mra_shape shape);
void mra_cli_certified_free(mra_cli_certified *certified);

#endif
