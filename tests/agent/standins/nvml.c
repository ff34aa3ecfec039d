/* A stand-in for libnvidia-ml where there is no NVIDIA card: one card that takes 71.25 W.

   It follows the NVML API reference for the functions that edlab/agent/sensors/nvml.py calls. With NEWER it also has an
   energy counter, which is renewed every 100 ms, and the power fields: 70 W on average, 90.5 W at present. */

#include <stdio.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2 };

static int card;

int nvmlInit_v2(void) { return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 1;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index != 0) return INVALID_ARGUMENT;
    *handle = &card;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    if (handle != &card) return INVALID_ARGUMENT;
    *milliwatts = 71250;
    return SUCCESS;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    if (handle != &card) return INVALID_ARGUMENT;
    snprintf(name, length, "Stand-in Card");
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "580.1");
    return SUCCESS;
}

#ifdef NEWER
enum { POWER_AVERAGE = 185, POWER_INSTANT = 186, NOT_SUPPORTED = 3, VALUE_UNSIGNED_INT = 1 };

typedef union { double d; int i; unsigned u; unsigned long l; unsigned long long ll; } Value;

typedef struct {
    unsigned id, scope;
    long long timestamp, latency_us;
    unsigned type;
    int code;
    Value value;
} FieldValue;

int nvmlDeviceGetTotalEnergyConsumption(void *handle, unsigned long long *millijoules) {
    struct timespec now;
    if (handle != &card) return INVALID_ARGUMENT;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *millijoules = (now.tv_sec * 10ULL + now.tv_nsec / 100000000) * 7125;
    return SUCCESS;
}

int nvmlDeviceGetFieldValues(void *handle, int count, FieldValue *values) {
    if (handle != &card) return INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) {
        int known = values[i].id == POWER_AVERAGE || values[i].id == POWER_INSTANT;
        values[i].type = VALUE_UNSIGNED_INT;
        values[i].code = known ? SUCCESS : NOT_SUPPORTED;
        values[i].value.u = values[i].id == POWER_AVERAGE ? 70000 : 90500;
    }
    return SUCCESS;
}
#endif
