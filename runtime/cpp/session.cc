#include "session.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <tvm/ffi/extra/module.h>
#include <tvm/ffi/reflection/registry.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <sstream>

#include "runtime/rpc/minrpc/rpc_reference.h"
#include "runtime/rpc/rpc_channel.h"
#include "runtime/rpc/rpc_endpoint.h"
#include "support/bytes_io.h"

namespace tvm_eff {
namespace {

using Clock = std::chrono::steady_clock;

// A client that has left needs no answer: its code may finish, but not run for ever.
constexpr std::chrono::seconds kGraceAfterHangUp{2};

class SocketChannel final : public tvm::runtime::RPCChannel {
 public:
  explicit SocketChannel(int socket) : socket_(socket) {}

  size_t Send(const void* data, size_t size) final {
    return Checked("send", [&] { return send(socket_, data, size, MSG_NOSIGNAL); });
  }
  size_t Recv(void* data, size_t size) final {
    return Checked("receive", [&] { return recv(socket_, data, size, 0); });
  }

 private:
  template <typename Call>
  size_t Checked(const char* what, Call call) {
    ssize_t count;
    do {
      count = call();
    } while (count < 0 && errno == EINTR);
    if (count < 0) {
      TVM_FFI_THROW(InternalError) << "cannot " << what << ": " << std::strerror(errno);
    }
    return static_cast<size_t>(count);
  }

  int socket_;
};

// Collects the bytes of one packet.
struct Packet : tvm::support::BytesOutStream {
  using BytesOutStream::BytesOutStream;
  void MessageStart(uint64_t) {}
  void MessageDone() {}
};

// Answers the call that the client waits for, or its next one.
void ReturnError(int socket, const std::string& message) {
  std::string bytes;
  Packet packet(&bytes);
  tvm::runtime::RPCReference::ReturnException(message.c_str(), &packet);
  // Sent by the server, which must not wait for a client that does not read.
  SendAll(socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
}

tvm::ffi::Module LoadModule(const std::string& path) {
  if (path.size() < 3 || path.compare(path.size() - 3, 3, ".so") != 0) {
    TVM_FFI_THROW(ValueError) << path << " is not a shared library (.so); this server has no "
                              << "compiler to link with: link on the host, then upload";
  }
  // Bound at once: a function that is missing is an error here, where TVM's own lazy loading would
  // end the process at the first call. The handle stays open as long as the session.
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL) == nullptr) {
    TVM_FFI_THROW(RuntimeError) << "cannot load a library on the board: " << dlerror();
  }
  return tvm::ffi::Module::LoadFromFile(path);
}

void RegisterFunctions(const std::string& folder) {
  auto path_of = [folder](const std::string& name) { return folder + "/" + name; };
  tvm::ffi::reflection::GlobalDef()
      .def("tvm.rpc.server.workpath", path_of)
      .def("tvm.rpc.server.load_module",
           [path_of](const std::string& name) { return LoadModule(path_of(name)); });
}

[[noreturn]] void RunChild(int socket, const std::string& folder, pid_t server) {
  // The server may be killed at once, with no chance to end its child.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != server) _exit(1);
  signal(SIGINT, SIG_DFL);
  signal(SIGTERM, SIG_DFL);
  rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  int status = 0;
  try {
    if (chdir(folder.c_str()) != 0) _exit(1);
    RegisterFunctions(folder);
    auto channel = std::make_unique<SocketChannel>(socket);
    tvm::runtime::RPCEndpoint::Create(std::move(channel), "tvm_eff_server", "")->ServerLoop();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tvm_eff_server: the session failed: %s\n", error.what());
    status = 1;
  }
  std::fflush(nullptr);
  // No destructors: worker threads of the runtime may still run.
  _exit(status);
}

int RemoveEntry(const char* path, const struct stat*, int, struct FTW*) { return remove(path); }

// Milliseconds for poll(), rounded up so that it does not spin at the end.
int Until(const std::optional<Clock::time_point>& deadline) {
  if (!deadline) return -1;
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*deadline - Clock::now());
  constexpr long long kLongest = 1000 * 1000;
  return static_cast<int>(std::max(0LL, std::min<long long>(left.count() + 1, kLongest)));
}

enum class Ending { kChildEnded, kTimeOver, kClientLeft, kStopped };

// Waits for what ends the session. The child holds the other end of `life`: it closes with it.
Ending Supervise(const Client& client, int life, const StopSource& stop) {
  std::optional<Clock::time_point> deadline;
  if (client.timeout > 0) {
    deadline = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                  std::chrono::duration<double>(client.timeout));
  }
  Ending at_deadline = Ending::kTimeOver;
  pollfd watched[] = {{life, POLLIN, 0},
                      {client.socket, POLLRDHUP, 0},
                      {stop.standard_input, POLLIN, 0},
                      {stop.signal_pipe, POLLIN, 0}};
  while (true) {
    if (poll(watched, 4, Until(deadline)) < 0 && errno != EINTR) return Ending::kStopped;
    if (watched[0].revents != 0) return Ending::kChildEnded;
    if (stop.Stopped(watched[2].revents, watched[3].revents)) return Ending::kStopped;
    if (watched[1].revents != 0) {
      watched[1].fd = -1;
      watched[1].revents = 0;
      auto grace = Clock::now() + kGraceAfterHangUp;
      if (!deadline || grace < *deadline) {
        deadline = grace;
        at_deadline = Ending::kClientLeft;
      }
    }
    if (deadline && Clock::now() >= *deadline) return at_deadline;
  }
}

void ReportEnding(const Client& client, Ending ending, int status) {
  if (ending == Ending::kTimeOver) {
    std::ostringstream message;
    message << "RPCSessionTimeoutError: Your " << client.timeout << "s session has expired, "
            << "try to increase the \"session_timeout\" value.";
    ReturnError(client.socket, message.str());
    std::fprintf(stderr, "tvm_eff_server: a session of %g s is over\n", client.timeout);
  }
  if (ending != Ending::kChildEnded || status == 0) return;
  std::string message = "the session's process on the board ended with ";
  if (WIFSIGNALED(status)) {
    int number = WTERMSIG(status);
    message += "signal " + std::to_string(number) + " (" + strsignal(number) + ")";
  } else {
    message += "code " + std::to_string(WEXITSTATUS(status)) + "; the server's output says why";
  }
  ReturnError(client.socket, message);
  std::fprintf(stderr, "tvm_eff_server: %s\n", message.c_str());
}

}  // namespace

bool StopSource::Stopped(short input_events, short signal_events) const {
  if (signal_events != 0) return true;
  if (input_events == 0) return false;
  char ignored[256];
  ssize_t count = read(standard_input, ignored, sizeof(ignored));
  return count == 0 || (count < 0 && errno != EINTR && errno != EAGAIN);
}

bool SendAll(int socket, const void* data, size_t size, int flags) {
  const char* from = static_cast<const char*>(data);
  while (size != 0) {
    ssize_t count = send(socket, from, size, MSG_NOSIGNAL | flags);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    from += count;
    size -= static_cast<size_t>(count);
  }
  return true;
}

bool ServeSession(const Client& client, const std::string& parent_folder, int listener,
                  const StopSource& stop) {
  std::string folder = parent_folder + "/tvm_eff_session_XXXXXX";
  int life[2];
  if (mkdtemp(folder.data()) == nullptr || pipe2(life, O_CLOEXEC) != 0) {
    ReturnError(client.socket, "the board has no room for a session: cannot make a folder in " +
                                   parent_folder + ": " + std::strerror(errno));
    close(client.socket);
    return true;
  }
  std::fflush(nullptr);
  pid_t server = getpid();
  pid_t child = fork();
  if (child == 0) {
    close(listener);
    close(life[0]);
    RunChild(client.socket, folder, server);
  }
  close(life[1]);
  Ending ending = Ending::kChildEnded;
  int status = 0;
  if (child < 0) {
    ReturnError(client.socket, std::string("the board cannot fork: ") + std::strerror(errno));
  } else {
    ending = Supervise(client, life[0], stop);
    if (ending != Ending::kChildEnded) kill(child, SIGKILL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    ReportEnding(client, ending, status);
  }
  close(life[0]);
  close(client.socket);
  nftw(folder.c_str(), RemoveEntry, 16, FTW_DEPTH | FTW_PHYS);
  return ending != Ending::kStopped;
}

}  // namespace tvm_eff
