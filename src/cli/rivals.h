// Several methods side by side: what `mra audit` and `mra bench` share.
//
// A rival is a method with its options, on one shape, with a layer and a tape of its own, so
// that rivals can take turns. `--set` says options for all rivals at once: KEY=VALUE goes to
// every method that has the option KEY, METHOD.KEY=VALUE to that method alone.
#ifndef MRA_CLI_RIVALS_H
#define MRA_CLI_RIVALS_H

#include "attention/measure.h"
#include "cli/cli.h"
#include "cli/weights.h"

enum { MRA_CLI_MAX_RIVALS = 128 };

typedef struct mra_cli_rival {
    const mra_method *method;
    const char *assignment[MRA_METHOD_OPTIONS + 1]; // "option=value"
    int assignments;
    char blocks[64];       // text of the last assignment, if it came from a budget
    mra_instance instance; // layer and tape owned by the rival, arrays borrowed
} mra_cli_rival;

typedef struct mra_cli_rivals {
    mra_cli_rival *rival;
    int count;
} mra_cli_rivals;

// Lists the rivals: each of `methods`, at each of `budgets` (texts for its option "blocks") if
// it has that option and budgets->count > 0. No layers yet. MRA_BAD_INPUT: an unknown method; a
// setting that no listed method has.
mra_status mra_cli_list_rivals(mra_cli_rivals *rivals, const mra_cli_words *methods,
                               const mra_cli_words *budgets, const mra_cli_words *set,
                               mra_error *err);
// Whether they are of more than one method.
bool mra_cli_several_methods(const mra_cli_rivals *rivals);
// Makes a layer and a tape for one rival; options out of range and budgets larger than the
// matrix show here. With `weights`, loads and keeps what they ask for.
mra_status mra_cli_create_rival(mra_cli_rival *rival, mra_device *device, mra_shape shape,
                                uint64_t seed, mra_cli_weights *weights, mra_error *err);
// The same for all of them, and writes the files of `weights`, if any.
mra_status mra_cli_create_rivals(mra_cli_rivals *rivals, mra_device *device, mra_shape shape,
                                 uint64_t seed, mra_cli_weights *weights, mra_error *err);
// Gives layer and tape back and keeps the list.
void mra_cli_release_rival(mra_cli_rival *rival);
void mra_cli_release_rivals(mra_cli_rivals *rivals);
void mra_cli_free_rivals(mra_cli_rivals *rivals);

// Times forward, and forward with backward, of all rivals in turns. forward and both: one per
// rival.
mra_status mra_cli_time_rivals(mra_cli_rivals *rivals, int repeats, mra_timing *forward,
                               mra_timing *both, mra_error *err);

// The value of the option "blocks" as a user would write it ("8", "16:4"), "-" for a method
// without; rivals have their layers.
void mra_cli_budget_text(const mra_cli_rival *rival, char *text, size_t room);

#endif
