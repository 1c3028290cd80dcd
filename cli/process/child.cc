#include "cli/process/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "berth/error.h"
#include "planner/base/descriptor.h"
#include "planner/base/self_path.h"

namespace berth {
namespace {

struct Pipe {
  Descriptor read;
  Descriptor write;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    throw Error(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
  }
  return {Descriptor(ends[0]), Descriptor(ends[1])};
}

// Reads both pipes to their ends, in whatever order data arrives, so that neither blocks the child.
void drain(int out, int talk, ChildResult& result) {
  std::array<pollfd, 2> polled{pollfd{out, POLLIN, 0}, pollfd{talk, POLLIN, 0}};
  std::array<std::string*, 2> sinks{&result.out, &result.talk};
  std::array<char, 4096> buffer{};
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) return;
    for (std::size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].fd < 0 || polled[i].revents == 0) continue;
      const ssize_t count = ::read(polled[i].fd, buffer.data(), buffer.size());
      if (count > 0) sinks[i]->append(buffer.data(), static_cast<std::size_t>(count));
      if (count == 0 || (count < 0 && errno != EINTR)) polled[i].fd = -1;
      polled[i].revents = 0;
    }
  }
}

}  // namespace

ChildResult run_self(const std::vector<std::string>& arguments) {
  Pipe out = make_pipe();
  Pipe talk = make_pipe();
  // All that allocates happens before fork: between it and exec only async-signal-safe calls may
  // run.
  std::vector<std::string> owned{"berth"};
  owned.insert(owned.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : owned) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const std::string self = self_path();

  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) throw Error(fmt::format("cannot start a process: {}", std::strerror(errno)));
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(127);
    ::dup2(out.write.get(), STDOUT_FILENO);
    ::dup2(talk.write.get(), STDERR_FILENO);
    ::execv(self.c_str(), argv.data());
    ::_exit(127);
  }
  out.write.close();
  talk.write.close();
  ChildResult result;
  drain(out.read.get(), talk.read.get(), result);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return result;
}

}  // namespace berth
