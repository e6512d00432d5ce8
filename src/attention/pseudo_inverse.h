// The pseudo-inverse of many small matrices by iterations of products: no decomposition, so that it runs wherever
// products do and can be differentiated like any chain of them.
#ifndef MRA_ATTENTION_PSEUDO_INVERSE_H
#define MRA_ATTENTION_PSEUDO_INVERSE_H

#include "tensor/tensor.h"

// x+ for x[..., m, m] by `iterations` steps of third order from x^T / (|x|_1 |x|_inf):
//
//     Z <- Z (13 I - X Z (15 I - X Z (7 I - X Z))) / 4
//
// (Razavi, Kerayechian, Gachpazan & Shateyi, "A new iterative method for finding approximate inverses of complex
// matrices", 2014; as used by Xiong et al., "Nystroemformer", AAAI 2021, equation 12). `joint`:
// one scale of the first guess for all matrices, from the largest norms among them (the published
// code). The gradient is that of the iterations, their first guess included.
mra_tensor *mra_pseudo_inverse(mra_tape *tape, mra_tensor *x, int iterations, bool joint);

// The inverse of symmetric positive x[..., m, m] by at most `iterations` steps of Newton's method,
// Z <- 2 Z - Z X Z, from x / |x|_inf^2 (Lu et al., "SOFT: softmax-free transformer with linear complexity",
// NeurIPS 2021, algorithm 1, with half of its scale: see pseudo_inverse.c). A step that would bring an entry
// above 1e4 is not taken, nor any after it. `published`: the scale is 2 / |x|_inf^2, halved up to ten
// times until |I - alpha X X|_1 <= 1.01, one scale and one decision for all matrices.
mra_tensor *mra_newton_inverse(mra_tape *tape, mra_tensor *x, int iterations, bool published);

#endif
