// Runs a command and measures it from outside: wall time, exit status, peak RSS, and samples of its
// host memory over time, with anonymous, shared and mapped pages counted apart. The program is
// small and static, because the kernel passes its own size on to the child's peak RSS across fork
// and exec.
//
//   watch REPORT INTERVAL_MS COMMAND [ARGUMENT...]
//
// REPORT gets one line for each sample, "s NANOSECONDS ANON SHARED FILE": time by CLOCK_MONOTONIC,
// memory in kB, summed over the command and the processes that its main thread starts. The last
// line is "e START_NS EXIT_NS STATUS MAXRSS_KB". An interval of 0 takes no samples.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

struct Memory {
  long anonymous = 0;
  long shared = 0;
  long file = 0;
};

long long now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

// Reads a whole small file of /proc and ends it with a NUL. The text is empty if the process has
// gone.
template <std::size_t N>
const char* read_proc(char (&buffer)[N], int pid, const char* format) {
  char path[64];
  std::snprintf(path, sizeof path, format, pid, pid);
  buffer[0] = 0;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return buffer;
  const ssize_t n = read(fd, buffer, N - 1);
  buffer[n > 0 ? n : 0] = 0;
  close(fd);
  return buffer;
}

long field(const char* status, const char* name) {
  const char* at = std::strstr(status, name);
  return at ? std::strtol(at + std::strlen(name), nullptr, 10) : 0;
}

void add_tree(int pid, int depth, Memory& sum) {
  char status[4096];
  read_proc(status, pid, "/proc/%d/status");
  sum.anonymous += field(status, "RssAnon:");
  sum.shared += field(status, "RssShmem:");
  sum.file += field(status, "RssFile:");
  if (depth == 4) return;
  char children[1024];
  const char* at = read_proc(children, pid, "/proc/%d/task/%d/children");
  for (char* next = nullptr;; at = next) {
    const long child = std::strtol(at, &next, 10);
    if (next == at || child <= 0) return;
    add_tree(static_cast<int>(child), depth + 1, sum);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: watch REPORT INTERVAL_MS COMMAND [ARGUMENT...]\n");
    return 64;
  }
  const int interval = std::atoi(argv[2]);
  std::FILE* report = std::fopen(argv[1], "we");
  if (!report) {
    std::perror(argv[1]);
    return 1;
  }
  signal(SIGINT, SIG_IGN);  // the command decides what to do; we wait for it
  const long long start = now_ns();
  const pid_t pid = fork();
  if (pid == 0) {
    signal(SIGINT, SIG_DFL);
    execvp(argv[3], argv + 3);
    std::perror(argv[3]);
    _exit(127);
  }
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (pid < 0 || pidfd < 0) {
    std::perror("watch");
    return 1;
  }
  pollfd wait{pidfd, POLLIN, 0};
  while (poll(&wait, 1, interval > 0 ? interval : -1) <= 0) {
    Memory sum;
    add_tree(pid, 0, sum);
    std::fprintf(report, "s %lld %ld %ld %ld\n", now_ns(), sum.anonymous, sum.shared, sum.file);
  }
  int status = 0;
  rusage usage{};
  wait4(pid, &status, 0, &usage);
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  std::fprintf(report, "e %lld %lld %d %ld\n", start, now_ns(), code, usage.ru_maxrss);
  return std::fclose(report) == 0 ? code : 1;
}
