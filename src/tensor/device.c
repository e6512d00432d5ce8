// The devices of this build, by name.

#include "tensor/device.h"

#include <stdio.h>
#include <string.h>

#include "tensor/cpu_device.h"
#include "tensor/kernels.h"

typedef struct device_entry {
    const char *name;
    mra_status (*open)(mra_device **device, int threads, mra_error *err);
} device_entry;

static const device_entry entries[] = {{"cpu", mra_cpu_open}};
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

mra_status mra_device_open(mra_device **device, const char *name, int threads, mra_error *err)
{
    *device = NULL;
    for (int i = 0; i < ENTRIES; i++)
        if (strcmp(name, entries[i].name) == 0) return entries[i].open(device, threads, err);
    return unknown_device(name, err);
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
