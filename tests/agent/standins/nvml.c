/* A stand-in for libnvidia-ml where there is no NVIDIA card: one card that takes 71.25 W.

   It follows the NVML API reference for the functions that edlab/agent/sensors/nvml.py calls. */

#include <stdio.h>

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
