/* Uses the C interface as a program in C does: opens a file that it writes itself, maps it, edits
 * what it got, loads a box of it, and meets errors. Prints what is wrong and returns 1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "berth/berth_c.h"

/* Of DLPack, as far as this program looks. */
struct DLManagedTensor {
  void* data;
  int32_t device_type, device_id, ndim;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t* shape;
  int64_t* strides;
  uint64_t byte_offset;
  void* context;
  void (*deleter)(struct DLManagedTensor* self);
};

#define CHECK(condition)                                                \
  do {                                                                  \
    if (!(condition)) {                                                 \
      printf("line %d: %s\n%s\n", __LINE__, #condition, error.message); \
      return 1;                                                         \
    }                                                                   \
  } while (0)

static int write_file(const char* path) {
  const char header[] =
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[24,25]}}    ";
  const uint64_t size = sizeof header - 1;
  const float values[6] = {0, 1, 2, 3, 4, 5};
  FILE* file = fopen(path, "wb");
  if (!file) return 0;
  fwrite(&size, 8, 1, file);
  fwrite(header, 1, size, file);
  fwrite(values, 4, 6, file);
  fputc(7, file);
  return fclose(file) == 0;
}

static int32_t stop(uint64_t done, uint64_t total, double seconds, void* user) {
  (void)done, (void)total, (void)seconds;
  ++*(int*)user;
  return 1;
}

int main(void) {
  berth_error error = {0, ""};
  char path[64];
  const char* name = path;
  berth_files* files = NULL;
  size_t count = 0;
  snprintf(path, sizeof path, "/tmp/berth-c-%06d.safetensors", rand() % 1000000);
  CHECK(write_file(path));

  CHECK(berth_c_version() == BERTH_C_VERSION);
  CHECK(berth_open(&name, 1, &files, &error) == BERTH_OK);
  const berth_tensor* tensors = berth_tensors(files, &count);
  CHECK(count == 2);
  CHECK(strcmp(tensors[0].name, "a") == 0 && strcmp(tensors[0].dtype, "F32") == 0);
  CHECK(tensors[0].rank == 2 && tensors[0].shape[1] == 3 && tensors[0].bytes == 24);
  CHECK(tensors[1].end - tensors[1].begin == 1 && tensors[1].rank == 0);
  CHECK(strcmp(berth_file(files, 0), path) == 0 && berth_file(files, 1) == NULL);

  struct DLManagedTensor* loaded[2] = {NULL, NULL};
  CHECK(berth_load(files, NULL, 2, NULL, loaded, NULL, &error) == BERTH_OK);
  float* values = loaded[0]->data;
  CHECK(values[5] == 5 && loaded[0]->ndim == 2 && loaded[0]->shape[0] == 2);
  values[5] = 50;

  float column[2] = {0, 0};
  const uint64_t start[2] = {0, 2};
  const uint64_t size[2] = {2, 1};
  berth_target target = {sizeof target, 0, -1, column, sizeof column, NULL, start, size, NULL};
  CHECK(berth_load_into(files, &target, 1, NULL, NULL, &error) == BERTH_OK);
  CHECK(column[0] == 2 && column[1] == 5); /* what the file holds, not what was written above */

  int calls = 0;
  berth_load_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.progress = stop;
  options.user = &calls;
  CHECK(berth_load_into(files, &target, 1, &options, NULL, &error) == BERTH_INTERRUPTED);
  CHECK(calls == 1);

  berth_close(files);
  CHECK(values[5] == 50 && values[4] == 4); /* tensors outlive the handle */
  loaded[1]->deleter(loaded[1]);
  CHECK(values[5] == 50);
  loaded[0]->deleter(loaded[0]);

  files = NULL;
  name = "/no/such/file.safetensors";
  CHECK(berth_open(&name, 1, &files, &error) == BERTH_NO_FILE && files == NULL);
  CHECK(strstr(error.message, "/no/such/file.safetensors") != NULL);
  CHECK(berth_open(&name, 1, &files, NULL) == BERTH_NO_FILE);
  remove(path);
  return 0;
}
