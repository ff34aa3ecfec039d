// LD_PRELOAD: writes below $EDLAB_FAULT_FOLDER fail with EIO while the file $EDLAB_FAULT_SWITCH exists.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(int descriptor) {
    const char *folder = getenv("EDLAB_FAULT_FOLDER"), *on = getenv("EDLAB_FAULT_SWITCH");
    char link[64], path[PATH_MAX];
    if (!folder || !on || access(on, F_OK) != 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, folder, strlen(folder)) == 0;
}

#define FAILING(type, name, parameters, arguments)                              \
    type name parameters {                                                      \
        static type (*real) parameters;                                         \
        if (!real) real = (type(*) parameters)dlsym(RTLD_NEXT, #name);          \
        if (fails(descriptor)) {                                                \
            errno = EIO;                                                        \
            return -1;                                                          \
        }                                                                       \
        return real arguments;                                                  \
    }

FAILING(ssize_t, write, (int descriptor, const void *data, size_t size), (descriptor, data, size))
FAILING(ssize_t, pwrite, (int descriptor, const void *data, size_t size, off_t at), (descriptor, data, size, at))
FAILING(ssize_t, pwrite64, (int descriptor, const void *data, size_t size, off64_t at), (descriptor, data, size, at))
FAILING(int, fsync, (int descriptor), (descriptor))
FAILING(int, fdatasync, (int descriptor), (descriptor))
