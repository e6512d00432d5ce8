// The gradient of a step that is computed in parts.
//
// A batch of B examples too large for the memory is cut into P micro-batches, whose gradients are added. With c_p counted
// labels in part p and g_p the gradient of its mean loss, the gradient of the mean over the whole batch is
//
//     g = (c_0 g_0 + c_1 g_1 + ... + c_{P-1} g_{P-1}) / (c_0 + ... + c_{P-1}).
//
// The sum is taken in the order of the parts, each g_p complete before it is added:
// ((c_0 g_0 + c_1 g_1) + c_2 g_2) + .... So it has the same bits whoever computed which part.
#ifndef MRA_NN_GRADIENT_H
#define MRA_NN_GRADIENT_H

#include "core/error.h"
#include "nn/group.h"
#include "nn/layers.h"

typedef struct mra_gradient mra_gradient; // opaque

// For steps of `parts` parts, which the processes of `group` share out evenly: process r has parts r P / R to (r + 1) P / R - 1
// (MRA_BAD_INPUT if R does not divide P). `parameters` and `group` are borrowed; the former must be complete.
mra_status mra_gradient_create(mra_gradient **gradient, mra_parameters *parameters, int parts,
                               const mra_group *group, mra_error *err);
void mra_gradient_free(mra_gradient *gradient);

// Adds the gradient that the parameters hold now, that of part `part` (the own ones in their order), and sets it to zero.
// Collective (nn/group.h), as the next one.
mra_status mra_gradient_add(mra_gradient *gradient, int part, mra_error *err);
// Gives the sum back to the parameters. With one part, both do nothing.
mra_status mra_gradient_finish(mra_gradient *gradient, mra_error *err);

#endif
