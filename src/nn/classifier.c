// A sequence classifier: encoder, pooling, and a head of two linear layers.
//
// The published experiments pad every sequence to the longest length $N$ and average over all $N$ positions.
// Padding is zero after the final LayerNorm, so this mean is $\frac1N \sum_{i < n} x_i$ however far a batch was
// padded: for a batch of width $n \le N$ it is the mean over its own $n$ positions times $n / N$. So an example gets the
// same logits in a short batch as in a long one, and batches of similar lengths can be padded
// as little as they need.

#include "nn/classifier.h"

#include <stdlib.h>

mra_status mra_classifier_create(mra_classifier **classifier,
                                 const mra_classifier_options *options, mra_device *device,
                                 mra_error *err)
{
    *classifier = NULL;
    if (options->classes < 2)
        return mra_fail(err, MRA_BAD_INPUT, "classifier: %d classes, expected at least 2",
                        options->classes);
    mra_classifier *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "classifier: no memory");
    made->options = *options;
    const mra_encoder_options *encoder = &options->encoder;
    mra_parameters_open(&made->parameters, device, encoder->seed);
    mra_status status = mra_encoder_create(&made->encoder, encoder, &made->parameters, err);
    if (status == MRA_OK)
        status = mra_linear_layer_create(&made->expand, &made->parameters, "head.expand",
                                         options->pairs ? 4 * encoder->dim : encoder->dim,
                                         encoder->hidden, err);
    if (status == MRA_OK)
        status = mra_linear_layer_create(&made->contract, &made->parameters, "head.contract",
                                         encoder->hidden, options->classes, err);
    if (status == MRA_OK)
        *classifier = made;
    else
        mra_classifier_free(made);
    return status;
}

void mra_classifier_free(mra_classifier *classifier)
{
    if (!classifier) return;
    mra_encoder_free(classifier->encoder);
    mra_parameters_free(&classifier->parameters);
    free(classifier);
}

// [2 count, dim], the means of pairs one after the other, to [count, 4 dim]: a, b, a b, a - b.
static mra_tensor *compare(mra_tape *tape, mra_tensor *x, int count, int dim)
{
    mra_tensor *both = mra_reshape(tape, x, 2, (int[]){count, 2 * dim});
    mra_tensor *a = mra_columns(tape, both, 0, dim), *b = mra_columns(tape, both, dim, dim);
    mra_tensor *parts[] = {both, mra_multiply(tape, a, b),
                           mra_add(tape, a, mra_scale(tape, b, -1.0f))};
    return mra_concat(tape, parts, 3);
}

mra_tensor *mra_classifier_logits(mra_classifier *classifier, mra_tape *tape,
                                  const mra_batch *batch)
{
    const bool pairs = classifier->options.pairs;
    const int rows = pairs ? 2 * batch->count : batch->count;
    mra_tensor *x =
        mra_encoder_apply(classifier->encoder, tape, batch->ids, batch->mask, rows, batch->n);
    if (classifier->options.pooling == MRA_POOL_TOKENS) {
        x = mra_mean_pool(tape, x, batch->mask);
    } else {
        float share = (float)batch->n / (float)classifier->options.encoder.positions;
        x = mra_scale(tape, mra_mean_pool(tape, x, NULL), share);
    }
    if (pairs) x = compare(tape, x, batch->count, classifier->options.encoder.dim);
    x = mra_relu(tape, mra_linear_layer_apply(&classifier->expand, tape, x));
    return mra_linear_layer_apply(&classifier->contract, tape, x);
}

mra_tensor *mra_classifier_loss(mra_classifier *classifier, mra_tape *tape,
                                const mra_batch *batch, int *correct)
{
    mra_tensor *logits = mra_classifier_logits(classifier, tape, batch);
    return mra_cross_entropy(tape, logits, batch->labels, correct);
}
