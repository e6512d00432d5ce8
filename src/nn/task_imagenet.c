// The task "imagenet": an image classifier on photographs in class folders.
//
// Pictures are not kept decoded: 1.28 million of them would not fit, and each is cropped and changed anew in every
// epoch. A batch is read, decoded and transformed when it is prepared, on a thread of its own beside the step before, with
// as many threads again as the device has. What becomes of a picture is a function of (seed, epoch, picture), the order
// of an epoch one of (seed, epoch); so a run that is resumed sees what it would have seen. What is left over at the end of an
// epoch, fewer pictures than a batch, is skipped; in an evaluation the last batch is filled up with a picture
// that is not counted.

#include "nn/task_imagenet.h"

#include <stdlib.h>
#include <string.h>

#include "core/random.h"
#include "data/image_folder.h"
#include "nn/encoder_options.h"
#include "nn/train_options.h"

enum { PATH = 1024 };

typedef struct imagenet {
    mra_task task;
    const mra_train_options *options;
    mra_image_folder *set;
    mra_image_classifier *model;
    mra_augment augment;
    int rows, threads;
    size_t per_epoch;  // batches
    uint64_t epoch;    // the one that `order` holds, plus one; 0: none
    uint32_t *order;   // pictures of train/ in the order of training
    uint32_t *held[2]; // pictures of val/ that are dev, and that are test
    size_t held_count[2];
    double majority[2];
} imagenet;

typedef struct batch {
    mra_image_examples examples;
    size_t *index;
} batch;

static imagenet *imagenet_of(const mra_task *task)
{
    return (imagenet *)task;
}

// ---- Settings -------------------------------------------------------------------------------------

static const int64_t LARGE = 1000000000;

static void read_model(mra_reader *reader, mra_image_classifier_options *model, uint64_t seed)
{
    mra_stem *stem = &model->stem;
    mra_encoder_options *encoder = &model->encoder;
    stem->size = (int)mra_read_int(reader, "model.size", 224, 1, 4096);
    stem->patch = (int)mra_read_int(reader, "model.patch", 14, 1, 4096);
    stem->stride = (int)mra_read_int(reader, "model.stride", 7, 1, 4096);
    stem->padding = (int)mra_read_int(reader, "model.padding", 5, 0, 4095);
    const int side = mra_stem_side(stem);
    *encoder = (mra_encoder_options){.dim = 128,
                                     .heads = 2,
                                     .head_dim = 64,
                                     .blocks = 4,
                                     .hidden = 512,
                                     .dropout = 0.1,
                                     .positions = side > 0 ? side * side : 1,
                                     .seed = seed};
    mra_encoder_options_read(reader, encoder);
    encoder->hidden_dropout =
        mra_read_real(reader, "model.hidden_dropout", encoder->dropout, 0.0, 0.99);
    if (reader->status == MRA_OK && side > 0 && encoder->positions != side * side)
        reader->status = mra_fail(reader->err, MRA_BAD_INPUT,
                                  "model.positions=%d: expected %d x %d, the patches that "
                                  "size, patch, stride and padding leave",
                                  encoder->positions, side, side);
    mra_attention_options_read(reader, encoder);
}

static void read_augment(mra_reader *reader, mra_augment *augment)
{
    *augment = mra_augment_defaults();
    const struct {
        const char *key;
        double *value;
    } field[] = {{"augment.area_low", &augment->area_low},
                 {"augment.area_high", &augment->area_high},
                 {"augment.aspect_low", &augment->aspect_low},
                 {"augment.aspect_high", &augment->aspect_high},
                 {"augment.flip", &augment->flip},
                 {"augment.jitter", &augment->jitter},
                 {"augment.magnitude", &augment->magnitude},
                 {"augment.deviation", &augment->deviation},
                 {"augment.crop", &augment->crop}};
    for (size_t i = 0; i < sizeof field / sizeof *field; i++)
        *field[i].value = mra_read_real(reader, field[i].key, *field[i].value, 0, 1e6);
    augment->rand_augment =
        mra_read_bool(reader, "augment.rand_augment", augment->rand_augment);
    augment->jitter_always =
        mra_read_bool(reader, "augment.jitter_always", augment->jitter_always);
}

static void read_settings(mra_reader *reader, mra_train_options *options)
{
    mra_imagenet_options *own = &options->imagenet;
    own->folder = mra_read_text(reader, "data.folder", NULL);
    own->classes = (int)mra_read_int(reader, "data.classes", 0, 0, 1000000);
    own->train = (size_t)mra_read_int(reader, "data.train", 0, 0, LARGE);
    own->val = (size_t)mra_read_int(reader, "data.val", 0, 0, LARGE);
    own->seed = (uint64_t)mra_read_int(reader, "data.seed", 0, 0, INT64_MAX);
    read_model(reader, &own->model, options->seed);
    read_augment(reader, &own->augment);
    own->augment.size = own->model.stem.size;
    own->augment.seed = options->seed;
    if (reader->status == MRA_OK)
        reader->status = mra_augment_check(&own->augment, reader->err);
}

static void write_settings(const mra_train_options *options, mra_writer *writer)
{
    const mra_imagenet_options *own = &options->imagenet;
    const mra_encoder_options *encoder = &own->model.encoder;
    const mra_stem *stem = &own->model.stem;
    const mra_augment *a = &own->augment;
    if (own->folder) mra_write(writer, "data.folder=%s\n", own->folder);
    mra_write(writer, "data.classes=%d\ndata.train=%zu\ndata.val=%zu\ndata.seed=%llu\n",
              own->classes, own->train, own->val, (unsigned long long)own->seed);
    mra_encoder_options_write(encoder, writer);
    mra_write(writer, "model.hidden_dropout=%.17g\n", encoder->hidden_dropout);
    mra_write(writer, "model.size=%d\nmodel.patch=%d\nmodel.stride=%d\nmodel.padding=%d\n",
              stem->size, stem->patch, stem->stride, stem->padding);
    mra_write(writer, "augment.area_low=%.17g\naugment.area_high=%.17g\n", a->area_low,
              a->area_high);
    mra_write(writer, "augment.aspect_low=%.17g\naugment.aspect_high=%.17g\n", a->aspect_low,
              a->aspect_high);
    mra_write(writer, "augment.flip=%.17g\naugment.rand_augment=%d\n", a->flip,
              a->rand_augment);
    mra_write(writer, "augment.magnitude=%.17g\naugment.deviation=%.17g\n", a->magnitude,
              a->deviation);
    mra_write(writer, "augment.jitter=%.17g\naugment.jitter_always=%d\naugment.crop=%.17g\n",
              a->jitter, a->jitter_always, a->crop);
    mra_attention_options_write(encoder, writer);
}

// ---- Data and network -----------------------------------------------------------------------------

// The pictures of val/ that one of dev and test consists of, drawn if fewer are wanted, and how frequent the most
// frequent class is among them.
static mra_status choose_held(imagenet *task, int which, size_t limit, mra_error *err)
{
    const size_t total = mra_image_folder_count(task->set, MRA_TEST);
    const size_t count = limit > 0 && limit < total ? limit : total;
    size_t *tally = calloc((size_t)mra_image_folder_classes(task->set), sizeof *tally),
           most = 0;
    uint32_t *held = task->held[which] = calloc(count, sizeof *held);
    task->held_count[which] = count;
    if (!held || !tally) {
        free(tally);
        return mra_fail(err, MRA_NO_MEMORY, "imagenet: no memory for the splits");
    }
    mra_random_subset(held, total, count, 0, mra_stream("subset", total, count));
    for (size_t i = 0; i < count; i++) {
        const size_t seen = ++tally[mra_image_folder_label(task->set, MRA_TEST, held[i])];
        if (seen > most) most = seen;
    }
    task->majority[which] = (double)most / (double)count;
    free(tally);
    return MRA_OK;
}

static mra_status open_data(imagenet *task, const mra_task_run *run, mra_error *err)
{
    const mra_train_options *options = task->options;
    const mra_imagenet_options *own = &options->imagenet;
    char path[PATH];
    mra_status status = mra_image_folder_find(own->folder, path, sizeof path, err);
    if (status != MRA_OK) return status;
    const mra_image_folder_options data = {.path = path,
                                           .classes = own->classes,
                                           .train = own->train,
                                           .val = own->val,
                                           .seed = own->seed,
                                           .quiet = run->quiet};
    status = mra_image_folder_open(&task->set, &data, err);
    if (status != MRA_OK) return status;
    const size_t train = mra_image_folder_count(task->set, MRA_TRAIN);
    if (train > UINT32_MAX || mra_image_folder_count(task->set, MRA_TEST) > UINT32_MAX)
        return mra_fail(err, MRA_BAD_INPUT, "%s: expected at most %u pictures", path,
                        UINT32_MAX);
    task->rows = (size_t)options->batch < train ? options->batch : (int)train;
    task->per_epoch = train / (size_t)task->rows;
    task->order = calloc(train, sizeof *task->order);
    if (!task->order) return mra_fail(err, MRA_NO_MEMORY, "imagenet: no memory");
    status = choose_held(task, 0, options->dev_examples, err);
    return status == MRA_OK ? choose_held(task, 1, options->test_examples, err) : status;
}

static void close_task(mra_task *task)
{
    if (!task) return;
    imagenet *own = imagenet_of(task);
    mra_image_classifier_free(own->model);
    mra_image_folder_free(own->set);
    free(own->order);
    free(own->held[0]);
    free(own->held[1]);
    free(own);
}

static mra_status open_task(mra_task **task, const mra_train_options *options,
                            const mra_task_run *run, mra_error *err)
{
    *task = NULL;
    imagenet *made = calloc(1, sizeof *made);
    if (!made) return mra_fail(err, MRA_NO_MEMORY, "training: no memory");
    made->task.kind = &mra_task_imagenet;
    made->options = options;
    made->augment = options->imagenet.augment;
    made->threads = run->device->threads;
    mra_status status = open_data(made, run, err);
    if (status == MRA_OK) {
        mra_image_classifier_options model = options->imagenet.model;
        model.classes = mra_image_folder_classes(made->set);
        status = mra_image_classifier_create(&made->model, &model, run->device, err);
    }
    if (status != MRA_OK) {
        close_task(&made->task);
        return status;
    }
    made->task.parameters = &made->model->parameters;
    *task = &made->task;
    return MRA_OK;
}

// ---- Batches --------------------------------------------------------------------------------------

static void free_batch(void *given)
{
    batch *own = given;
    if (!own) return;
    free(own->examples.pixels);
    free(own->examples.labels);
    free(own->index);
    free(own);
}

static mra_status create_batch(mra_task *task, void **given, mra_error *err)
{
    const imagenet *imagenet = imagenet_of(task);
    const size_t rows = (size_t)imagenet->rows, size = (size_t)imagenet->augment.size;
    batch *made = calloc(1, sizeof *made);
    *given = made;
    if (made) {
        made->examples.pixels = malloc(rows * 3 * size * size * sizeof(float));
        made->examples.labels = calloc(rows, sizeof *made->examples.labels);
        made->index = calloc(rows, sizeof *made->index);
        if (made->examples.pixels && made->examples.labels && made->index) return MRA_OK;
    }
    free_batch(made);
    *given = NULL;
    return mra_fail(err, MRA_NO_MEMORY, "batches of %zu pictures of %zu x %zu: no memory", rows,
                    size, size);
}

static void plan_epoch(imagenet *imagenet, uint64_t epoch)
{
    const size_t count = mra_image_folder_count(imagenet->set, MRA_TRAIN);
    if (imagenet->epoch == epoch + 1) return;
    for (size_t i = 0; i < count; i++) imagenet->order[i] = (uint32_t)i;
    mra_random_shuffle(imagenet->order, count, 1, imagenet->options->seed,
                       mra_stream("order of pictures", epoch, 0));
    imagenet->epoch = epoch + 1;
}

// Rows [from, to) of the batch of a training step.
static mra_status prepare_training(imagenet *imagenet, uint64_t step, int from, int to,
                                   batch *own, mra_error *err)
{
    const uint64_t epoch = step / imagenet->per_epoch;
    plan_epoch(imagenet, epoch);
    const uint32_t *order =
        imagenet->order + step % imagenet->per_epoch * (uint64_t)imagenet->rows;
    for (int i = from; i < to; i++) own->index[i - from] = order[i];
    const mra_image_batch wanted = {.split = MRA_TRAIN,
                                    .index = own->index,
                                    .count = (size_t)(to - from),
                                    .augment = &imagenet->augment,
                                    .train = true,
                                    .epoch = epoch,
                                    .threads = imagenet->threads};
    return mra_image_folder_batch(imagenet->set, &wanted, own->examples.pixels,
                                  own->examples.labels, err);
}

static mra_status prepare_evaluation(const imagenet *imagenet, int which, uint64_t number,
                                     batch *own, mra_error *err)
{
    const uint64_t rows = (uint64_t)imagenet->rows, start = number * rows;
    const uint32_t *held = imagenet->held[which] + start;
    const uint64_t left = imagenet->held_count[which] - start;
    const mra_image_batch wanted = {.split = MRA_TEST,
                                    .index = own->index,
                                    .count = left < rows ? left : rows,
                                    .augment = &imagenet->augment,
                                    .threads = imagenet->threads};
    for (size_t i = 0; i < wanted.count; i++) own->index[i] = held[i];
    const mra_status status = mra_image_folder_batch(
        imagenet->set, &wanted, own->examples.pixels, own->examples.labels, err);
    const size_t size = (size_t)imagenet->augment.size, picture = 3 * size * size;
    for (size_t i = wanted.count; i < rows && status == MRA_OK; i++) {
        memcpy(own->examples.pixels + i * picture, own->examples.pixels,
               picture * sizeof(float));
        own->examples.labels[i] = -1;
    }
    return status;
}

static mra_status prepare(mra_task *task, const mra_portion *portion, void *given,
                          mra_error *err)
{
    imagenet *imagenet = imagenet_of(task);
    batch *own = given;
    own->examples.count = imagenet->rows;
    if (portion->split != MRA_TRAIN)
        return prepare_evaluation(imagenet, portion->split == MRA_TEST, portion->index, own,
                                  err);
    int from, to;
    const mra_status status = mra_portion_rows(portion, imagenet->rows, &from, &to, err);
    if (status != MRA_OK) return status;
    own->examples.count = to - from;
    return prepare_training(imagenet, portion->index, from, to, own, err);
}

static mra_tensor *loss(mra_task *task, mra_tape *tape, const void *given, mra_score *score)
{
    const imagenet *imagenet = imagenet_of(task);
    const mra_image_examples *examples = &((const batch *)given)->examples;
    *score = (mra_score){0};
    for (int i = 0; i < examples->count; i++) score->counted += examples->labels[i] >= 0;
    score->tokens = score->counted * imagenet->model->options.encoder.positions;
    return mra_image_classifier_loss(imagenet->model, tape, examples, score->right);
}

static size_t count_batches(const mra_task *task, mra_split split)
{
    const imagenet *imagenet = imagenet_of(task);
    const size_t rows = (size_t)imagenet->rows;
    return (imagenet->held_count[split == MRA_TEST] + rows - 1) / rows;
}

// ---- About the data -------------------------------------------------------------------------------

static double majority(const mra_task *task, mra_split split)
{
    return imagenet_of(task)->majority[split == MRA_TEST];
}

// Of folders there is no one file.
static const char *source(const mra_task *task, int index)
{
    return index == 0 ? mra_image_folder_file(imagenet_of(task)->set) : NULL;
}

static mra_status describe(const mra_task *task, mra_safetensors *file, mra_error *err)
{
    return mra_safetensors_set_number(file, "classes",
                                      imagenet_of(task)->model->options.classes, err);
}

const mra_task_kind mra_task_imagenet = {.name = "imagenet",
                                         .metric = {"accuracy", "top5"},
                                         .prefetch = true,
                                         .read = read_settings,
                                         .write = write_settings,
                                         .open = open_task,
                                         .close = close_task,
                                         .batch_create = create_batch,
                                         .batch_free = free_batch,
                                         .prepare = prepare,
                                         .loss = loss,
                                         .batches = count_batches,
                                         .majority = majority,
                                         .source = source,
                                         .describe = describe};
