/* A stand-in for libcudart and libcuda where there is no GPU: device memory is the host's.

   It follows the CUDA Runtime API reference for the functions that edlab/agent/cuda.py calls. Copies are done when
   their stream is synchronised, so that one who forgets it reads what was there before. It proves nothing of speed,
   nor of CUDA itself. */

#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, MEMORY_ALLOCATION = 2, QUEUE = 16 };

typedef struct { void *to; const void *from; size_t size; } Copy;
typedef struct { Copy copies[QUEUE]; int count; } Stream;

/* No function of CUDA's name is called here: a TensorFlow in the same process has stubs of these names. */
static int allocate(void **pointer, size_t size) {
    *pointer = size < ((size_t)1 << 40) ? malloc(size) : NULL;
    return *pointer ? SUCCESS : MEMORY_ALLOCATION;
}

int cudaMalloc(void **pointer, size_t size) { return allocate(pointer, size); }
int cudaMallocHost(void **pointer, size_t size) { return allocate(pointer, size); }
int cudaFree(void *pointer) { free(pointer); return SUCCESS; }
int cudaFreeHost(void *pointer) { free(pointer); return SUCCESS; }

int cudaStreamCreateWithFlags(Stream **stream, unsigned flags) {
    (void)flags;
    *stream = calloc(1, sizeof(Stream));
    return SUCCESS;
}

int cudaStreamDestroy(Stream *stream) { free(stream); return SUCCESS; }

int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, Stream *stream) {
    if ((kind != 1 && kind != 2) || stream->count == QUEUE) return INVALID_VALUE;
    stream->copies[stream->count++] = (Copy){to, from, size};
    return SUCCESS;
}

int cudaStreamSynchronize(Stream *stream) {
    for (int i = 0; i < stream->count; i++) memcpy(stream->copies[i].to, stream->copies[i].from, stream->copies[i].size);
    stream->count = 0;
    return SUCCESS;
}

int cudaDeviceGetAttribute(int *value, int attribute, int device) {
    if (device != 0) return INVALID_VALUE;
    switch (attribute) {
    case 75: *value = 8; return SUCCESS; /* compute capability 8.7 */
    case 76: *value = 7; return SUCCESS;
    case 16: *value = 14; return SUCCESS; /* multiprocessors */
    default: return INVALID_VALUE;
    }
}

int cudaMemGetInfo(size_t *free, size_t *total) {
    *free = (size_t)1 << 30;
    *total = ((size_t)30 << 30) + ((size_t)100 << 20);
    return SUCCESS;
}

int cudaRuntimeGetVersion(int *version) { *version = 12060; return SUCCESS; }

const char *cudaGetErrorString(int error) { return error == MEMORY_ALLOCATION ? "out of memory" : "invalid argument"; }

int cuInit(unsigned flags) { return flags != 0; }

int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, "Stand-in GPU", length);
    return device != 0;
}
