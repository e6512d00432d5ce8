// # Inverses by iteration
//
// Both methods that reduce attention to a few landmarks need the inverse of the matrix between landmarks. With
// $E_k = I - XZ_k$ the error of the $k$-th guess, Newton's step $Z_{k+1}=Z_k(2I-XZ_k)$ has
// $E_{k+1}=E_k^2$; the step of third order has $E_{k+1}=\frac34E_k^3+\frac14E_k^4$ for one product more, and needs fewer
// steps from a far guess. A guess $\alpha X^\top$ with $\alpha$ small enough starts with eigenvalues of $E_0$ in
// $[0,1)$, and every step commutes with $X$, so that the sequence can't leave the right half.
//
// **A start to avoid.** SOFT starts Newton's iteration for a symmetric $P$ from $\alpha P$ with $\alpha=2/\lVert P\rVert_\infty^2$,
// halved as long as $\lVert I-\alpha P^2\rVert_1>1.01$. An eigenvalue $\lambda$ of $P$ then has $\alpha\lambda^2\in(0,2]$, and at 2 the
// error is $-1$: its square is 1, so the first step maps it to the point from which nothing moves. That is no corner
// case: landmarks that are far apart have $P\approx I$, all of whose eigenvalues sit there, and the norm that is tested is
// $1$. In exact arithmetic the iteration returns 0 for $P=I$; near it, what it returns after 20 steps is
// decided by the sum of the smallest entries, and in single precision by rounding. Half of that, $\alpha=1/\lVert P\rVert_\infty^2$, has
// errors in $[0,1)$ for every symmetric positive $P$, needs no test, and converges in the same number of steps;
// it is used here unless the published code is asked for.
//
// Directions in which $X$ is small converge last: after $k$ third-order steps a singular value $\sigma$ has been
// inverted if $\sigma^2\gtrsim(13/4)^{-k}$ times the norms. Six steps of a softmax matrix therefore give a *regularised*
// inverse; the methods were published with these few steps, and so they are part of what is computed.

#include "attention/pseudo_inverse.h"

#include "tensor/kernels.h"

mra_tensor *mra_pseudo_inverse(mra_tape *tape, mra_tensor *x, int iterations, bool joint)
{
    mra_tensor *z = mra_inverse_guess(tape, x, MRA_INVERSE_NORMS, joint);
    for (int k = 0; k < iterations; k++) {
        mra_tensor *xz = mra_matmul(tape, x, false, z, false);
        mra_tensor *inner = mra_identity_minus(tape, 7, xz);
        inner = mra_identity_minus(tape, 15, mra_matmul(tape, xz, false, inner, false));
        inner = mra_identity_minus(tape, 13, mra_matmul(tape, xz, false, inner, false));
        z = mra_matmul(tape, mra_scale(tape, z, 0.25f), false, inner, false);
    }
    return z;
}

mra_tensor *mra_newton_inverse(mra_tape *tape, mra_tensor *x, int iterations, bool published)
{
    const float most = 1e4f;
    mra_tensor *z = mra_inverse_guess(
        tape, x, published ? MRA_INVERSE_HALVED : MRA_INVERSE_SQUARE, published);
    for (int k = 0; k < iterations; k++) {
        mra_tensor *zx = mra_matmul(tape, z, false, x, false);
        mra_tensor *step = mra_matmul(tape, mra_identity_minus(tape, 2, zx), false, z, false);
        z = mra_keep_bounded(tape, z, step, most, published);
    }
    return z;
}
