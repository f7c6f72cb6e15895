/* The errors of the CUDA runtime and the driver, which share their numbers. */
#ifndef PEAKVRAM_ERRORS_H
#define PEAKVRAM_ERRORS_H

enum {
    OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_PITCH = 12, INVALID_SYMBOL = 13, INVALID_DIRECTION = 21,
    INSUFFICIENT_DRIVER = 35, INVALID_FUNCTION = 98, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400, NOT_FOUND = 500, ALREADY_REGISTERED = 712, NOT_REGISTERED = 713, NOT_SUPPORTED = 801,
};

typedef struct {
    int number;
    const char *runtime, *driver, *text; /* either name is NULL where that library has no such error */
} vgpu_error;

/* What is known of an error, or NULL. */
const vgpu_error *vgpu_error_of(int number);
/* Its text: of what is not supported, with the name of the function that was asked for. NULL where it is unknown. */
const char *vgpu_error_text(int number);

#endif
