// The kinds of tasks.

#include "nn/task.h"

#include <stdio.h>
#include <string.h>

#include "nn/task_classify.h"
#include "nn/task_imagenet.h"
#include "nn/task_masked.h"

static const mra_task_kind *const kinds[] = {&mra_task_classify, &mra_task_masked,
                                             &mra_task_imagenet, NULL};

const mra_task_kind *mra_task_known(int index)
{
    return kinds[index];
}

mra_status mra_task_find(const mra_task_kind **kind, const char *name, mra_error *err)
{
    char names[200] = "";
    for (int i = 0; kinds[i]; i++) {
        *kind = kinds[i];
        if (strcmp(name, kinds[i]->name) == 0) return MRA_OK;
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", kinds[i]->name);
    }
    return mra_fail(err, MRA_BAD_INPUT, "task.name: %.60s is unknown, expected one of %s", name,
                    names);
}

int mra_task_metrics(const mra_task_kind *kind)
{
    int count = 0;
    while (kind->metric[count]) count++;
    return count;
}

mra_status mra_portion_rows(const mra_portion *portion, int rows, int *from, int *to,
                            mra_error *err)
{
    *from = (int)((int64_t)portion->part * rows / portion->parts);
    *to = (int)(((int64_t)portion->part + 1) * rows / portion->parts);
    if (*from < *to) return MRA_OK;
    return mra_fail(err, MRA_BAD_INPUT,
                    "train.accumulate=%d: a batch of %d examples has fewer than one a part",
                    portion->parts, rows);
}
