// The devices of this build, by name.

#include "tensor/device.h"

#include <stdio.h>
#include <string.h>

#include "tensor/cpu_device.h"
#include "tensor/kernel_device.h"
#include "tensor/kernels.h"

typedef struct device_entry {
    const char *name;
    mra_status (*open)(mra_device **device, int threads, mra_error *err);
} device_entry;

static const device_entry entries[] = {
    {"cpu", mra_cpu_open}, {"cuda", mra_cuda_open}, {"simt", mra_simt_open}};
enum { ENTRIES = sizeof entries / sizeof entries[0] };

static mra_status unknown_device(const char *name, mra_error *err)
{
    char names[200] = "";
    for (int i = 0; i < ENTRIES; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", entries[i].name);
    }
    return mra_fail(err, MRA_BAD_INPUT, "device '%s' is unknown; this build has: %s", name,
                    names);
}

#ifndef MRA_HAVE_CUDA
mra_status mra_cuda_open(mra_device **device, int threads, mra_error *err)
{
    (void)threads;
    *device = NULL;
    return mra_fail(err, MRA_ABSENT,
                    "device 'cuda': this build has no code for GPUs: nvcc was not found when "
                    "it was made, or it is one for the sanitizers");
}
#endif

// The precision behind the colon of a device's name.
static mra_status read_precision(const char *name, const char *text, mra_precision *precision,
                                 mra_error *err)
{
    static const char *const words[] = {"float32", "tf32", "bf16"};
    for (int i = 0; i < 3; i++) {
        *precision = (mra_precision)i;
        if (strcmp(text, words[i]) == 0) return MRA_OK;
    }
    return mra_fail(err, MRA_BAD_INPUT,
                    "device '%s': precision '%s': expected float32, tf32 or bf16", name, text);
}

mra_status mra_device_open(mra_device **device, const char *name, int threads, mra_error *err)
{
    *device = NULL;
    const size_t length = strcspn(name, ":");
    const device_entry *entry = NULL;
    for (int i = 0; i < ENTRIES; i++)
        if (strlen(entries[i].name) == length && !strncmp(name, entries[i].name, length))
            entry = &entries[i];
    if (!entry) return unknown_device(name, err);
    mra_precision precision = MRA_FLOAT32;
    if (name[length] == ':') {
        mra_status status = read_precision(name, name + length + 1, &precision, err);
        if (status) return status;
        if (entry->open == mra_cpu_open && precision != MRA_FLOAT32)
            return mra_fail(err, MRA_BAD_INPUT, "device '%s': the cpu has float32 alone", name);
    }
    mra_status status = entry->open(device, threads, err);
    if (!status) (*device)->precision = precision;
    return status;
}

void mra_device_close(mra_device *device)
{
    if (device) device->close(device);
}

const char *mra_device_name(int index)
{
    return index >= 0 && index < ENTRIES ? entries[index].name : NULL;
}

mra_status mra_device_fused(const mra_fused_method **method, mra_device *device,
                            const char *name, mra_error *err)
{
    const mra_kernels *kernels = device->kernels;
    for (int i = 0; i < kernels->fused_count; i++) {
        *method = &kernels->fused[i];
        if (strcmp((*method)->name, name) == 0) return MRA_OK;
    }
    *method = NULL;
    return mra_fail(err, MRA_ABSENT, "%s: the device '%s' has no code for it: use cpu", name,
                    device->name);
}
