// Everything of src/core that the layers above use, in one include.
#ifndef MRA_CORE_CORE_H
#define MRA_CORE_CORE_H

#include "core/arena.h"
#include "core/error.h"
#include "core/file.h"
#include "core/parallel.h"
#include "core/progress.h"
#include "core/random.h"
#include "core/record.h"
#include "core/settings.h"

#endif
