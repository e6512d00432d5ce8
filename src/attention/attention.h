// One interface for every attention method of the comparison.
//
// A method is a row of a table: what it is called, what it can be told, what it claims to cost,
// where it was published, and three functions. `create` checks the options and prepares for a
// shape; `apply` computes Z from Q, K, V on a tape, either by the tape's primitives or as one
// fused node; `destroy` gives memory back. Everything else (training, benchmarks, `mra attend`,
// `mra grad`, the figures) goes through this table and knows no method by name.
#ifndef MRA_ATTENTION_ATTENTION_H
#define MRA_ATTENTION_ATTENTION_H

#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "mra/mra.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

enum { MRA_METHOD_OPTIONS = 12, MRA_METHOD_PARAMETERS = 4, MRA_METHOD_ARRAYS = 8 };

typedef enum mra_option_type {
    MRA_OPTION_INT,
    MRA_OPTION_REAL,
    MRA_OPTION_BOOL,
    MRA_OPTION_CHOICE, // one of `choices`, separated by '|'; the value is its position
    MRA_OPTION_LIST,   // numbers separated by ':', e.g. scales=16:4:1
    MRA_OPTION_GRID    // "none" (an empty list) or HEIGHTxWIDTH (the list height, width)
} mra_option_type;

typedef struct mra_option {
    const char *name;
    mra_option_type type;
    const char *fallback; // default, as a user would write it
    double low, high;     // allowed range of each number
    const char *choices;  // for MRA_OPTION_CHOICE, e.g. "row|plain"; else NULL
    const char *help;     // one line
} mra_option;

// Parsed values, in the order of the method's options.
typedef struct mra_option_value {
    double number;  // INT, REAL, BOOL (0 or 1), CHOICE (position)
    double list[8]; // LIST, a grid
    int count;      // length of the list
    bool given;     // false: this is the default
} mra_option_value;

// Something a method learns, and how it begins: entry by entry mean + N(0, deviation^2), a
// function of (seed, name, entry) alone.
typedef struct mra_method_parameter {
    const char *name; // as in a weights file, e.g. "projection"
    int rank;
    int shape[MRA_MAX_RANK];
    float mean, deviation;
    bool shared_by_layers; // a network has one for all its layers, not one for each
} mra_method_parameter;

// Something a method drew at random: what an outsider needs to compute the same. On the host;
// either `floats` or `ints` is set, the product of `shape` values.
typedef struct mra_method_array {
    const char *name; // e.g. "features"
    int rank;
    int shape[MRA_MAX_RANK];
    const float *floats;
    const int32_t *ints;
} mra_method_array;

typedef struct mra_method mra_method;

// What every instance begins with; a method's own struct has this as its first member.
typedef struct mra_attention_layer {
    const mra_method *method;
    mra_device *device;
    mra_shape shape;
    uint64_t seed;
    mra_option_value option[MRA_METHOD_OPTIONS];
    int positions; // learned parameters serve sequences up to this length; at least shape.n
    mra_tensor *parameter[MRA_METHOD_PARAMETERS]; // learned, in the order of the method's list
    int parameters;
    bool borrowed; // the parameters belong to whoever made the layer
} mra_attention_layer;

struct mra_method {
    const char *name;          // as on the command line
    const char *summary;       // one line
    const char *time, *memory; // asymptotic, as claimed, e.g. "n^2 d"
    const char *source;        // citation
    // May be NULL: paragraphs, ended by NULL, for the method's page: what it computes, and
    // where the published code departs from the method's own paper.
    const char *const *description;
    const mra_option *options;
    int option_count;

    // Allocates the method's struct (first member: the layer, already filled in *base) and
    // returns it in *layer.
    mra_status (*create)(mra_attention_layer **layer, const mra_attention_layer *base,
                         mra_error *err);
    // See mra_attention_layer_check; NULL: nothing to check.
    mra_status (*check)(const mra_attention_layer *layer, mra_error *err);
    // q, k, v: [batch, heads, n, d] of the layer's shape; mask: [batch, n] host bytes or NULL.
    // Returns Z on the tape.
    mra_tensor *(*apply)(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                         mra_tensor *k, mra_tensor *v, const uint8_t *mask);
    // Gives back what create made, the struct itself included, but not the parameters.
    void (*destroy)(mra_attention_layer *layer);

    // May be NULL: forward, and backward unless dz is NULL, on host arrays without a tape and
    // without copies. z, dq, dk and dv are overwritten. For methods that are one fused
    // operation.
    mra_status (*run)(mra_attention_layer *layer, const float *q, const float *k,
                      const float *v, const uint8_t *mask, float *z, const float *dz, float *dq,
                      float *dk, float *dv, mra_error *err);
    // May be NULL: what the last forward pass did.
    mra_statistics (*statistics)(const mra_attention_layer *layer);

    // NULL where nothing is learned. Fills parameter[] for the options, heads, d and positions of
    // `base` (its other members are not set yet) and returns how many there are. When `create`
    // is called, base->parameter[] holds them.
    int (*learned)(const mra_attention_layer *base,
                   mra_method_parameter parameter[MRA_METHOD_PARAMETERS]);
    // NULL where nothing is drawn. Fills array[] with what the layer drew, which stays the
    // layer's, and returns how many there are.
    int (*drawn)(const mra_attention_layer *layer, mra_method_array array[MRA_METHOD_ARRAYS]);
    // NULL where no certificate is known: mra_attention_certify (mra.h) for the last forward pass.
    mra_status (*certify)(const mra_attention_layer *layer, const float *q, const float *k,
                          const float *v, const uint8_t *mask, const float *z, double *row,
                          mra_certificate *certificate, mra_error *err);
    // Floating-point operations of a forward pass of one head, a multiplication, an addition and
    // an exponential as one each. measure_operations.c says how they are counted. NULL: not
    // counted.
    double (*operations)(const mra_attention_layer *layer);
};

// The table: index from 0 until NULL; and by name (NULL: unknown).
const mra_method *mra_method_at(int index);
const mra_method *mra_method_find(const char *name);

// Makes an instance. `assignments`: `count` strings "option=value"; what is not named keeps its
// default. Unknown options, values out of range and shapes that the method cannot take are
// MRA_BAD_INPUT naming method and option.
mra_status mra_attention_layer_create(mra_attention_layer **layer, const char *method,
                                      mra_device *device, mra_shape shape, uint64_t seed,
                                      const char *const *assignments, int count,
                                      mra_error *err);
// The same with all that can be said: parameters of the caller's, for sequences that are longer
// than this layer's.
typedef struct mra_attention_request {
    const char *method;
    mra_device *device;
    mra_shape shape;
    uint64_t seed;
    const char *const *assignments;
    int assignment_count;
    int positions; // the longest sequence that the parameters serve; below shape.n: shape.n
    // NULL: the layer makes its own, drawn from `seed`. Otherwise those of the caller, which
    // outlive the layer, in the order and with the shapes of mra_attention_learned().
    mra_tensor *const *parameters;
} mra_attention_request;

mra_status mra_attention_layer_make(mra_attention_layer **layer,
                                    const mra_attention_request *request, mra_error *err);
// What a layer made for `request` learns: fills parameter[] and *count.
mra_status mra_attention_learned(const mra_attention_request *request,
                                 mra_method_parameter parameter[MRA_METHOD_PARAMETERS],
                                 int *count, mra_error *err);
// The values with which a parameter begins: the product of its shape floats, on the host.
void mra_method_parameter_draw(const mra_method_parameter *parameter, uint64_t seed,
                               float *values);

// Refuses what `create` would quietly cut down to the shape: a budget larger than the matrix.
// For callers whose user named method, options and shape together; a network whose batches
// differ in length wants the cut instead.
mra_status mra_attention_layer_check(const mra_attention_layer *layer, mra_error *err);
void mra_attention_layer_free(mra_attention_layer *layer);
mra_tensor *mra_attention_apply(mra_attention_layer *layer, mra_tape *tape, mra_tensor *q,
                                mra_tensor *k, mra_tensor *v, const uint8_t *mask);

// Forward, and backward if dz is not NULL, on host arrays of the layer's shape: what `mra
// attend`, `mra grad`, the benchmarks and the experiments call. dq, dk, dv are overwritten. z
// may be NULL with dz given.
mra_status mra_attention_run(mra_attention_layer *layer, mra_tape *tape, const float *q,
                             const float *k, const float *v, const uint8_t *mask, float *z,
                             const float *dz, float *dq, float *dk, float *dv, mra_error *err);

#endif
