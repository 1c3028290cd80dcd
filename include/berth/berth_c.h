/* Berth for programs in other languages: opening files of weights, planning, and loading tensors
 * into memory that Berth owns or into memory of the caller. Plain C; link libberth_c.so.
 *
 *   berth_error error;
 *   berth_files* files = NULL;
 *   const char* path = "model.safetensors";
 *   if (berth_open(&path, 1, &files, &error) != BERTH_OK) puts(error.message);
 *
 * Errors. No exception crosses this border, and nothing here ends the process. A function that can
 * fail returns a berth_status and, where it is not BERTH_OK, fills `error` if that is not NULL. The
 * message is one line that says what was wrong, where, and what to do. Output arguments are then as
 * they were before.
 *
 * Threads. A function may be called from any thread. Handles may be used by several threads at
 * once, except while one of them closes the handle. berth_load() and berth_load_into() use threads
 * of their own and have joined them when they return.
 *
 * Sizes are bytes, times are seconds. Texts are UTF-8 and end with a zero. Structs that the caller
 * fills begin with `struct_size`, which is sizeof of the struct, so that they can grow; members
 * that are zero mean their default. */
#ifndef BERTH_BERTH_C_H_
#define BERTH_BERTH_C_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define BERTH_C_API extern "C" __attribute__((visibility("default")))
#else
#define BERTH_C_API
#endif

/* Grows by one when a function or a struct changes so that programs must be compiled anew. */
#define BERTH_C_VERSION 1u
BERTH_C_API uint32_t berth_c_version(void);  /* of the library: compare it with BERTH_C_VERSION */
BERTH_C_API const char* berth_version(void); /* "0.1.0" */

typedef int32_t berth_status;
#define BERTH_OK 0
#define BERTH_ERROR 1        /* none of those below */
#define BERTH_DOES_NOT_FIT 2 /* there is less memory than is needed */
#define BERTH_BROKEN_FILE 3  /* malformed, cut short, changed while it was used, or unreadable */
#define BERTH_NO_FILE 4      /* there is no such file or folder */
#define BERTH_INTERRUPTED 5  /* a progress callback said so */
#define BERTH_USAGE 6        /* an argument makes no sense */

typedef struct berth_error {
  berth_status status;
  char message[2044]; /* cut where it is longer */
} berth_error;

/* ---- Files of weights ----------------------------------------------------------------------- */

/* Files of weights whose headers have been read. No config.json is needed. */
typedef struct berth_files berth_files;

/* Opens `count` paths together, at least one. A path is a file (safetensors, torch.save, GGUF), a
 * folder of them, or whatever else the command `berth` takes for MODEL. Two of the paths may not
 * hold tensors of the same name. Reads headers, no byte of the weights. Close with berth_close().
 */
BERTH_C_API berth_status berth_open(const char* const* paths, size_t count, berth_files** files,
                                    berth_error* error);
/* Tensors that were loaded live on without the handle. NULL is allowed. */
BERTH_C_API void berth_close(berth_files* files);

/* A tensor in a file: what its header says. Pointers are valid until berth_close(). */
typedef struct berth_tensor {
  const char* name;
  const char* dtype;     /* as safetensors spells it, "BF16", or GGUF, "Q4_K" */
  const uint64_t* shape; /* `rank` sizes, outermost first */
  uint64_t rank;
  uint64_t file;       /* which file: see berth_file() */
  uint64_t begin;      /* its bytes in the file: [begin, end) */
  uint64_t end;        /* may be more than `bytes` where elements do not stand side by side */
  uint64_t bytes;      /* in memory, row-major, in the stored dtype */
  uint64_t name_bytes; /* without the zero */
} berth_tensor;

/* In the order of the files, then of the offsets. An index into it names a tensor elsewhere. The
 * names stand one after another in memory, each with its zero; so do the shapes. */
BERTH_C_API const berth_tensor* berth_tensors(const berth_files* files, size_t* count);
/* The whole path of a file, or NULL where there are not so many. */
BERTH_C_API const char* berth_file(const berth_files* files, size_t index);

/* ---- Loading -------------------------------------------------------------------------------- */

/* Called a few times a second by the thread that called berth_load() or berth_load_into(). Any
 * other result than 0 stops the load, which then returns BERTH_INTERRUPTED. */
typedef int32_t (*berth_progress)(uint64_t bytes_done, uint64_t bytes_total, double seconds,
                                  void* user);

/* Where berth_load() puts tensors. */
#define BERTH_MEMORY_MAP 0u     /* copy-on-write mappings of the files, wherever that can be */
#define BERTH_MEMORY_PRIVATE 1u /* memory of the process, filled before berth_load() returns */

typedef struct berth_load_options {
  uint64_t struct_size;
  uint32_t memory;   /* berth_load() only. Default: BERTH_MEMORY_MAP */
  uint32_t emulate;  /* berth_load_into() only. 1: the memory of GPUs that are not here is host
                        memory, for tests. Default: such GPUs are an error */
  const char* dtype; /* berth_load() only: what floating-point tensors become ("BF16", "F16",
                        "F32", "F64"). Default: as they are stored */
  const char* io;    /* "auto", "buffered", "direct" or "uring". Default: "auto" */
  uint64_t staging;  /* the most bytes that buffers may take. Default: 128 MiB */
  berth_progress progress; /* Default: none */
  void* user;              /* for `progress` */
} berth_load_options;

/* What was measured. */
typedef struct berth_load_report {
  uint64_t struct_size;
  double seconds;
  uint64_t tensors;
  uint64_t bytes_read;         /* delivered by read engines: every needed byte once */
  uint64_t bytes_mapped;       /* handed out as mappings */
  uint64_t host_peak_bytes;    /* anonymous memory above what was in use before; 0: not measured */
  uint64_t planned_peak_bytes; /* what that should have been */
} berth_load_report;

struct DLManagedTensor; /* of DLPack 1.0, https://dmlc.github.io/dlpack/ */

/* Loads `count` tensors into host memory that Berth owns: `tensors` are indices, NULL means the
 * first `count` of them. `out` has space for `count` pointers.
 *
 * Each tensor comes as a managed tensor of DLPack: its pointer, shape and type, compact and
 * row-major. What DLPack has no type for (4 and 6 bits, blocks of GGUF) comes as bytes. Give each
 * back by its `deleter`, from any thread. It has an owner of its own: it lives as long as it is not
 * given back, without the handle and without the others, and its memory goes when it is given back.
 *
 * The memory may be written to, mapped or not. A file never changes by that. Tensors that one
 * handle maps several times are one memory. A mapped file must not be made shorter by anybody;
 * touching what is gone then raises SIGBUS.
 *
 * All or nothing: on an error no tensor is handed out and no memory is kept. `options` and `report`
 * may be NULL. */
BERTH_C_API berth_status berth_load(const berth_files* files, const uint32_t* tensors, size_t count,
                                    const berth_load_options* options, struct DLManagedTensor** out,
                                    berth_load_report* report, berth_error* error);

/* Where a tensor, or a box of it, goes. */
typedef struct berth_target {
  uint64_t struct_size;
  uint32_t tensor;       /* an index */
  int32_t device;        /* whose memory it is: the number of a CUDA device, or -1, host memory */
  void* data;            /* aligned to the element; written to in row-major order, without gaps */
  uint64_t bytes;        /* of memory there: exactly what the elements need */
  const char* dtype;     /* what elements become there, as in berth_load_options; NULL: as stored */
  const uint64_t* start; /* the box begins at these indices, one for each dimension; NULL: at 0 */
  const uint64_t* size;  /* and has these sizes; NULL: it is the whole tensor */
  void* stream; /* on a GPU: the cudaStream_t whose work may still use that memory, as it may
                   where an allocator has just handed it out again; NULL: the default stream */
} berth_target;

/* How many GPUs berth_load_into() can fill: 0 where there is no driver, no CUDA runtime, or no CUDA
 * in this build. Their numbers are CUDA's, from 0 on. */
BERTH_C_API int32_t berth_gpu_count(void);

/* The bytes of host memory that this process can take now without swapping: what is free, and file
 * cache that the kernel can drop, within every limit of the process's control groups. 0: unknown.
 * berth_load() compares private memory with it by itself; before a load into memory of the caller,
 * whoever allocates that memory can. */
BERTH_C_API uint64_t berth_free_host_memory(void);

/* Loads tensors, or boxes of them, into memory that the caller owns. Targets must not overlap.
 * Every byte of the files that is needed is read once, also where several targets need it, except
 * between files that are in the page cache and files that are not. On an error what is in the
 * memory of the targets is undefined, and nothing writes to it any more.
 *
 * GPUs. Bytes pass through page-locked staging straight to their targets. What is converted on the
 * way passes through at most 16 MiB of the GPU's memory, which is all that is taken there besides.
 * The first copy waits for what `stream` of the targets has got by now, so the caller need not;
 * when this returns, all bytes are there, and any stream may use them. The calling thread's current
 * device stays as it was. A GPU that is not here, and memory that is not the GPU's, are errors
 * before anything is read. CUDA's own failures are BERTH_ERROR and name CUDA's error. */
BERTH_C_API berth_status berth_load_into(const berth_files* files, const berth_target* targets,
                                         size_t count, const berth_load_options* options,
                                         berth_load_report* report, berth_error* error);

/* ---- Planning ------------------------------------------------------------------------------- */

/* A plan: where every tensor of a model would live, and what that costs. */
typedef struct berth_plan berth_plan;

/* The folder with Berth's data files (architectures/ and hardware/), for this process. Needed where
 * the program that runs is not the command `berth`. Call it before anything else. */
BERTH_C_API void berth_set_configs(const char* folder);

/* Plans `model` as `berth plan MODEL ARGUMENTS` does: `arguments` are `count` flags and values of
 * that command, such as "--max-memory" and "0=24GiB,cpu=64GiB", of which those that choose an
 * output do nothing here. A model that does not fit is a plan, too, which says what is missing.
 * Free with berth_plan_free(). */
BERTH_C_API berth_status berth_plan_make(const char* model, const char* const* arguments,
                                         size_t count, berth_plan** plan, berth_error* error);
BERTH_C_API void berth_plan_free(berth_plan* plan); /* NULL is allowed */

BERTH_C_API int32_t berth_plan_fits(const berth_plan* plan); /* 1 or 0 */

#define BERTH_PLAN_JSON 0u       /* what `berth plan --json` prints */
#define BERTH_PLAN_TEXT 1u       /* what `berth plan` prints, without colours */
#define BERTH_PLAN_VERBOSE 2u    /* the same with every module */
#define BERTH_PLAN_SVG 3u        /* a picture */
#define BERTH_PLAN_DEVICE_MAP 4u /* the device map as JSON, as Hugging Face writes it */
/* `text` is valid until the plan is freed. */
BERTH_C_API berth_status berth_plan_text(berth_plan* plan, uint32_t form, const char** text,
                                         berth_error* error);

#endif /* BERTH_BERTH_C_H_ */
