// Unit rows, and attention through hash codes, on the tape.

#include <string.h>

#include "tensor/hash.h"
#include "tensor/operation.h"

// ---- Unit rows: saved are the norms ---------------------------------------------------------

static mra_status unit_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    mra_tensor *x = node->operand[0], *y = node->output;
    return device->kernels->unit_rows_backward(device, mra_leading(x), mra_last(x), y->data,
                                               node->saved, y->grad, x->grad, mra_grad_adds(x),
                                               err);
}

mra_tensor *mra_unit_rows(mra_tape *tape, mra_tensor *x)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    mra_tensor *y = mra_result_like(tape, x, x->needs_grad);
    float *norm = mra_tape_device_alloc(tape, mra_leading(x) * sizeof *norm);
    if (!y || !norm) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->unit_rows(device, mra_leading(x), mra_last(x), x->data,
                                                   y->data, norm, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {x},
                                  .operands = 1,
                                  .saved = norm,
                                  .backward = unit_backward,
                                  .name = "unit_rows",
                                  .overwrites = true});
}

// ---- What the forms of attention share ------------------------------------------------------

// Whether q, k and v have one shape [..., n, d] (with `whole`: [batch, heads, n, d] of it).
static bool check_operands(mra_tape *tape, const char *name, const mra_tensor *q,
                           const mra_tensor *k, const mra_tensor *v, const int *whole)
{
    if (q->rank >= 2 && mra_same_shape(q, k) && mra_same_shape(q, v) &&
        (!whole || (q->rank == 4 && memcmp(q->shape, whole, 4 * sizeof *whole) == 0)))
        return true;
    mra_tape_fail(tape, MRA_BAD_INPUT, "%s: q%s, k%s, v%s, expected one shape [%s]", name,
                  mra_shape_of(q).text, mra_shape_of(k).text, mra_shape_of(v).text,
                  whole ? "batch,heads,n,d" : "...,n,d");
    return false;
}

static mra_tensor *result_of(mra_tape *tape, const mra_tensor *q, const mra_tensor *k,
                             const mra_tensor *v)
{
    return mra_result_like(tape, q, q->needs_grad || k->needs_grad || v->needs_grad);
}

// Whether the gradient of x is added to, and where it goes (NULL: not wanted).
static float *grad_of(mra_tensor *x, bool *add)
{
    *add = x->needs_grad && mra_grad_adds(x);
    return x->needs_grad ? x->grad : NULL;
}

// ---- The whole kernel -----------------------------------------------------------------------

static mra_status angular_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const mra_angle_form *form = node->saved;
    mra_tensor *q = node->operand[0], *k = node->operand[1], *v = node->operand[2];
    const float *dy = node->output->grad;
    mra_status status = MRA_OK;
    bool add, add_v;
    float *dq = grad_of(q, &add);
    if (dq)
        status = device->kernels->angular_attention_backward(
            device, form, q->data, k->data, dy, v->data, dq, add, NULL, false, err);
    if (status) return status;
    float *dk = grad_of(k, &add), *dv = grad_of(v, &add_v);
    if (!dk && !dv) return MRA_OK;
    return device->kernels->angular_attention_backward(device, form, k->data, q->data, v->data,
                                                       dy, dk, add, dv, add_v, err);
}

mra_tensor *mra_angular_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k, mra_tensor *v,
                                  int power, float shrink)
{
    if (!q || !k || !v || mra_tape_status(tape, NULL)) return NULL;
    if (!check_operands(tape, "angular_attention", q, k, v, NULL)) return NULL;
    mra_angle_form *form = mra_tape_alloc(tape, sizeof *form);
    mra_tensor *y = result_of(tape, q, k, v);
    if (!form || !y) return NULL;
    const int n = q->shape[q->rank - 2];
    *form = (mra_angle_form){.matrices = n ? mra_leading(q) / (size_t)n : 0,
                             .n = n,
                             .d = mra_last(q),
                             .power = power,
                             .shrink = shrink};
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->angular_attention(device, form, q->data, k->data,
                                                           v->data, y->data, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {q, k, v},
                                  .operands = 3,
                                  .saved = form,
                                  .backward = angular_backward,
                                  .name = "angular_attention",
                                  .overwrites = true});
}

// ---- Collisions -----------------------------------------------------------------------------

// Memory for the codes; NULL where there is none, or an operand failed.
static int32_t *codes_for(mra_tape *tape, const mra_tensor *x, const mra_hash_form *form)
{
    if (!x || mra_tape_status(tape, NULL)) return NULL;
    const size_t count = form->batch * (size_t)form->heads * (size_t)form->hashes;
    return mra_tape_device_alloc(tape, count * (size_t)form->n * sizeof(int32_t));
}

static int32_t *codes_or_error(mra_tape *tape, int32_t *codes, mra_status status,
                               const mra_error *err)
{
    if (status == MRA_OK) return codes;
    mra_tape_fail(tape, status, "%s", err->message);
    return NULL;
}

int32_t *mra_hash_by_signs(mra_tape *tape, const mra_tensor *x, const mra_hash_form *form,
                           const float *planes, const uint8_t *mask)
{
    int32_t *codes = codes_for(tape, x, form);
    if (!codes) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status =
        device->kernels->hash_signs(device, form, x->data, planes, mask, codes, &err);
    return codes_or_error(tape, codes, status, &err);
}

int32_t *mra_hash_by_rotations(mra_tape *tape, const mra_tensor *x, const mra_hash_form *form,
                               const float *rotations, const int32_t *widths,
                               const uint8_t *mask)
{
    int32_t *codes = codes_for(tape, x, form);
    if (!codes) return NULL;
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->hash_rotations(device, form, x->data, rotations,
                                                        widths, mask, codes, &err);
    return codes_or_error(tape, codes, status, &err);
}

typedef struct collision_state {
    mra_hash_form form;
    mra_collision_rule rule;
    const int32_t *q_codes, *k_codes;
} collision_state;

static mra_status collision_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const collision_state *s = node->saved;
    mra_tensor *q = node->operand[0], *k = node->operand[1], *v = node->operand[2];
    const float *const qkv[3] = {q->data, k->data, v->data}, *dy = node->output->grad;
    bool add_q, add_k, add_v;
    float *dq = grad_of(q, &add_q), *dk = grad_of(k, &add_k);
    mra_status status = MRA_OK;
    if (dq || dk)
        status =
            device->kernels->collision_backward(device, &s->form, &s->rule, s->q_codes,
                                                s->k_codes, qkv, dy, dq, add_q, dk, add_k, err);
    float *dv = grad_of(v, &add_v);
    if (status || !dv) return status;
    return device->kernels->collision_sum(device, &s->form, s->q_codes, s->k_codes, dy, dv,
                                          add_v, err);
}

mra_tensor *mra_collision_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k, mra_tensor *v,
                                    const mra_hash_form *form, const mra_collision_rule *rule,
                                    const int32_t *q_codes, const int32_t *k_codes)
{
    if (!q || !k || !v || !q_codes || !k_codes || mra_tape_status(tape, NULL)) return NULL;
    const int whole[4] = {(int)form->batch, form->heads, form->n, form->d};
    if (!check_operands(tape, "collision_attention", q, k, v, whole)) return NULL;
    collision_state *state = mra_tape_alloc(tape, sizeof *state);
    mra_tensor *y = result_of(tape, q, k, v);
    if (!state || !y) return NULL;
    *state = (collision_state){*form, *rule, q_codes, k_codes};
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = device->kernels->collision_sum(device, form, k_codes, q_codes, v->data,
                                                       y->data, false, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = y,
                                  .operand = {q, k, v},
                                  .operands = 3,
                                  .saved = state,
                                  .backward = collision_backward,
                                  .name = "collision_attention",
                                  .overwrites = true});
}

// ---- Sorted rows ----------------------------------------------------------------------------

typedef struct sorted_state {
    mra_sorted_form form;
    mra_sorted_operands operands; // as forward left them
} sorted_state;

static mra_status sorted_backward(mra_tape *tape, mra_node *node, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const sorted_state *s = node->saved;
    mra_sorted_operands o = s->operands;
    o.dz = node->output->grad;
    o.dq = grad_of(node->operand[0], &o.add_q);
    o.dk = grad_of(node->operand[1], &o.add_k);
    o.dv = grad_of(node->operand[2], &o.add_v);
    return device->kernels->sorted_attention_backward(device, &s->form, &o, err);
}

// Sorts the codes and gives the kernel its working arrays.
static mra_status sort_codes(mra_tape *tape, const mra_sorted_form *form,
                             mra_sorted_operands *o, mra_error *err)
{
    mra_device *device = mra_tape_device(tape);
    const size_t heads = form->batch * (size_t)form->heads, rounds = (size_t)form->rounds;
    const size_t lists = form->by_bucket ? heads * rounds : heads;
    const int length = form->by_bucket ? form->n : form->rounds * form->n;
    int32_t *order = mra_tape_device_alloc(tape, lists * (size_t)length * sizeof *order);
    int32_t *start =
        mra_tape_device_alloc(tape, lists * (size_t)(o->range + 1) * sizeof *start);
    o->statistics =
        mra_tape_device_alloc(tape, heads * (size_t)form->n * 2 * sizeof *o->statistics);
    if (!order || !start || !o->statistics) return mra_tape_status(tape, err);
    o->order = order;
    o->start = start;
    return device->kernels->sort_by_code(device, lists, length, o->range, o->codes, order,
                                         start, err);
}

mra_tensor *mra_sorted_attention(mra_tape *tape, mra_tensor *q, mra_tensor *k, mra_tensor *v,
                                 const mra_sorted_form *form, const int32_t *codes, int range,
                                 const uint8_t *mask)
{
    if (!q || !k || !v || !codes || mra_tape_status(tape, NULL)) return NULL;
    const int whole[4] = {(int)form->batch, form->heads, form->n, form->d};
    if (!check_operands(tape, "sorted_attention", q, k, v, whole)) return NULL;
    sorted_state *state = mra_tape_alloc(tape, sizeof *state);
    mra_tensor *z = result_of(tape, q, k, v);
    if (!state || !z) return NULL;
    *state = (sorted_state){.form = *form,
                            .operands = {.q = q->data,
                                         .k = k->data,
                                         .v = v->data,
                                         .codes = codes,
                                         .range = range,
                                         .mask = mask,
                                         .z = z->data}};
    mra_device *device = mra_tape_device(tape);
    mra_error err;
    mra_status status = sort_codes(tape, form, &state->operands, &err);
    if (!status)
        status = device->kernels->sorted_attention(device, form, &state->operands, &err);
    return mra_finish(tape, status, &err,
                      &(mra_node){.output = z,
                                  .operand = {q, k, v},
                                  .operands = 3,
                                  .saved = state,
                                  .backward = sorted_backward,
                                  .name = "sorted_attention",
                                  .overwrites = true});
}
